//! opflex.
