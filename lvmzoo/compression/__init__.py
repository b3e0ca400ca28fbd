"""Sets of codes as files of the size that the prior promises."""
