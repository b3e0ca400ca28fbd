"""What republishes the zoo: makes entries again, checks, bundles and publishes them, with cards."""
