"""HTTP: the server's side, as far as a page of numbers needs it."""
