"""A package, because the browser is one for all tests of a package."""
