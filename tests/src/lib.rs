//! The rig: realm, server, nested machines; end-to-end tests, the demo and benchmarks.
