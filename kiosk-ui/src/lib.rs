//! The ratatui screens of the kiosk.
