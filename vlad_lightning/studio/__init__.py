"""Pages for the browser: the playground, the layout editor and the rating study."""
