"""The chat: a page on this machine that asks about a case and shows every piece of evidence.

    gsco chat --workspace w        or        python app.py

`session` is what a person has said and been told, `follow` understands a follow-up question,
`evidence` draws what a diagnosis rests on, `keepsake` puts it on paper, `page` is the page.
"""
