//! The embedded Kubewarden host.
