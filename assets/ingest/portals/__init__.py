"""One module per portal protocol: declared part in, verbatim bytes out."""
