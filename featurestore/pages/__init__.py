"""Pages for people: HTML, SVG drawings, and the page of a data set."""
