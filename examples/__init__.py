"""Applications built on Headrace, as a user would build them."""
