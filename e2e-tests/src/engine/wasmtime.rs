//! wasmtime, configured and driven as policy-server does it.

use std::{thread, time::Duration};

use wasmtime_provider::{
    EpochDeadlines, WasmtimeEngineProvider, WasmtimeEngineProviderBuilder, WasmtimeEngineProviderPre, errors,
    wasmtime::{self, Cache, Config, Engine},
};

use super::LoadError;

/// How often running guests are asked to look at their deadline. The real host ticks once a second, so that its 2 s are
/// anything from 1 to 2; here they are 2.
const TICK: Duration = Duration::from_millis(10);

pub(crate) struct Module(WasmtimeEngineProviderPre);

impl Module {
    pub(super) fn load(module: &[u8]) -> Result<Self, LoadError> {
        let compile = |error: wasmtime::Error| LoadError::Compile(error.into());
        let mut config = Config::default();
        config.wasm_function_references(true);
        config.epoch_interruption(true);
        // In wasmtime's own directory, where the next process finds it. Without a home directory every process compiles.
        config.cache(Cache::from_file(None).ok());
        let engine = Engine::new(&config).map_err(compile)?;
        let module = wasmtime::Module::new(&engine, module).map_err(compile)?;
        let pre = WasmtimeEngineProviderBuilder::new().engine(engine.clone()).module(module).build_pre();
        let pre = pre.map_err(|error| LoadError::Link(error.into()))?;
        tick(&engine);
        Ok(Self(pre))
    }

    pub(super) fn instance(&self, deadline: Duration) -> Result<WasmtimeEngineProvider, errors::Error> {
        let ticks = deadline.as_nanos().div_ceil(TICK.as_nanos()).try_into().unwrap_or(u64::MAX);
        self.0.rehydrate(Some(EpochDeadlines { wapc_init: ticks, wapc_func: ticks }))
    }
}

/// Advances the engine's epoch for as long as somebody has the engine. As in the real host, ticks that a busy machine
/// misses are not made up for: a guest that had no processor is not to be blamed.
fn tick(engine: &Engine) {
    let engine = engine.weak();
    thread::spawn(move || {
        loop {
            thread::sleep(TICK);
            match engine.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => return,
            }
        }
    });
}
