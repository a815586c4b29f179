"""The chat: a page on this machine that asks about a case and shows every piece of evidence.

    gsco chat --workspace w        or        python app.py

`session` is what a person has said and been told, `follow` understands a follow-up question,
`talking` is the course of a conversation, `evidence` draws what a diagnosis rests on, `viewing` how
an image is looked at, `keepsake` puts a case on paper, `page` lays it all out, `serving` serves it.
"""
