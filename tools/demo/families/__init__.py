"""The families of questions: one function each that makes a dialogue from a source of randomness."""
