"""The chat over the starter workspace, or the one that the settings name, on this machine only.

python app.py
"""

from gsco.cli.chat import chat

if __name__ == "__main__":
    chat()
