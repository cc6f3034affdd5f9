//! In the place of a driver that nobody here uses.
