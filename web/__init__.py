"""The page that runs the zoo in a browser, and its build."""
