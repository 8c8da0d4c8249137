// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Links the Rust libraries into one static library with one Rust runtime. Nothing but re-exports belongs here.

pub use blazesym_c::*;
