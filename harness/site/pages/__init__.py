"""Our pages of the site: a folder each, with the template, script and style of the page and what makes its data."""
