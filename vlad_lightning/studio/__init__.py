"""The studio: a page in the browser to generate pictures, edit their layouts, and inpaint (``vlad-cli studio``)."""
