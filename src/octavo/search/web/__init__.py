"""Search over HTTP: `/v1/search`, what there is to know of the stack, and the page."""
