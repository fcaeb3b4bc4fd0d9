//! The client engine: fetch, local store, dirty state, disk and memory service, and the waystation command.
