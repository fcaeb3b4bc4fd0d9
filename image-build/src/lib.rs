//! Builds the kiosk appliance from a kiosk.toml.
