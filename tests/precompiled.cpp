// The target of the tests' precompiled headers needs a source; there is nothing to say in it.
