//! What runs the module: wasmtime, as in policy-server, or wasmi, which compiles in a fraction of the time.
//!
//! Both are engine providers of the `wapc` crate, so that everything above them is the same code. wasmtime comes as
//! Kubewarden's own provider, and is what every test runs the module on; wasmi is there for a command that has only itself to
//! wait for. `tests/module/engines.rs` shows that they answer alike.

mod wasmi;
#[cfg(feature = "wasmtime")]
mod wasmtime;

use std::{error::Error, fmt, time::Duration};

use thiserror::Error;
use wapc::WebAssemblyEngineProvider;

/// Which engine runs a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A compiler: the engine of policy-server and kwctl.
    #[cfg(feature = "wasmtime")]
    Wasmtime,
    /// An interpreter.
    Wasmi,
}

/// The real host's engine where this crate was built with it.
impl Default for Engine {
    fn default() -> Self {
        #[cfg(feature = "wasmtime")]
        return Self::Wasmtime;
        #[cfg(not(feature = "wasmtime"))]
        return Self::Wasmi;
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            #[cfg(feature = "wasmtime")]
            Self::Wasmtime => "wasmtime",
            Self::Wasmi => "wasmi",
        })
    }
}

/// Why a module cannot be run at all.
#[derive(Debug, Error)]
pub enum LoadError {
    /// No WebAssembly, or not of a kind that the engine knows.
    #[error("cannot compile the module")]
    Compile(#[source] Box<dyn Error + Send + Sync>),
    /// It imports what a Kubewarden host does not offer.
    #[error("cannot link the module")]
    Link(#[source] Box<dyn Error + Send + Sync>),
}

/// A module that an engine has compiled and linked.
pub(crate) enum Module {
    #[cfg(feature = "wasmtime")]
    Wasmtime(Box<wasmtime::Module>),
    Wasmi(wasmi::Module),
}

impl Module {
    pub(crate) fn load(engine: Engine, module: &[u8]) -> Result<Self, LoadError> {
        Ok(match engine {
            #[cfg(feature = "wasmtime")]
            Engine::Wasmtime => Self::Wasmtime(Box::new(wasmtime::Module::load(module)?)),
            Engine::Wasmi => Self::Wasmi(wasmi::Module::load(module)?),
        })
    }

    pub(crate) fn engine(&self) -> Engine {
        match self {
            #[cfg(feature = "wasmtime")]
            Self::Wasmtime(_) => Engine::Wasmtime,
            Self::Wasmi(_) => Engine::Wasmi,
        }
    }

    /// An instance that has yet to be started. Its start, and each call of it, may take as long as the deadline says.
    pub(crate) fn instance(
        &self,
        deadline: Duration,
    ) -> Result<Box<dyn WebAssemblyEngineProvider>, Box<dyn Error + Send + Sync>> {
        Ok(match self {
            #[cfg(feature = "wasmtime")]
            Self::Wasmtime(module) => Box::new(module.instance(deadline)?),
            Self::Wasmi(module) => Box::new(module.instance(deadline)),
        })
    }
}
