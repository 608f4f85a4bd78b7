"""What a prompt says and where it stands, without networks: words, fonts, colours, boxes, pictures."""
