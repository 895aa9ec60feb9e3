//! Placeholder, see ARCHITECTURE.md.
