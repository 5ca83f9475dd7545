"""One module a class of attacks; see `attacks/README.md` for the table of all of them."""
