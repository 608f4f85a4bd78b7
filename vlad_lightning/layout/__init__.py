"""Prompts and layouts, without networks: words, fonts, colours, boxes, pictures."""
