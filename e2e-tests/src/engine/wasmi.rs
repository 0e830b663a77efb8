//! wasmi, an interpreter: with the waPC protocol, and the few WASI calls that a policy in Rust makes.

use std::{
    error::Error,
    io::{self, Write as _},
    sync::{Arc, LazyLock},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use thiserror::Error;
use wapc::{HOST_NAMESPACE as WAPC, ModuleState, WebAssemblyEngineProvider, wapc_functions as names};
use wasmi::{
    AsContextMut, Caller, CompilationMode, Config, Engine, Extern, Linker, Memory, Store, TypedFunc,
    TypedResumableCall, WasmParams, WasmResults, errors::ErrorKind,
};

use super::LoadError;

/// How much fuel a guest gets until it is asked to look at its deadline. An instruction takes about one unit.
const SLICE: u64 = 100_000;

const WASI: &str = "wasi_snapshot_preview1";

/// WASI's error numbers.
const SUCCESS: i32 = 0;
const BAD_FILE: i32 = 8;
const INVALID: i32 = 28;
const IO: i32 = 29;

#[derive(Clone)]
pub(crate) struct Module {
    module: wasmi::Module,
    linker: Arc<Linker<State>>,
}

/// One instance. It has its memory once it is started.
pub(crate) struct Instance {
    module: Module,
    deadline: Duration,
    started: Option<Started>,
}

struct Started {
    store: Store<State>,
    guest_call: TypedFunc<(i32, i32), i32>,
}

struct State {
    host: Arc<ModuleState>,
    /// When the call that is going on is interrupted.
    ends: Instant,
}

/// Why a function of the guest gave no result.
#[derive(Debug, Error)]
enum Stopped {
    #[error("execution deadline exceeded")]
    Deadline,
    #[error("the guest exited with {0}")]
    Exit(i32),
    #[error("{0}")]
    Trap(String),
}

impl Stopped {
    fn by(error: &wasmi::Error) -> Self {
        error.i32_exit_status().map_or_else(|| Self::Trap(error.to_string()), Self::Exit)
    }
}

impl Module {
    pub(super) fn load(module: &[u8]) -> Result<Self, LoadError> {
        let mut config = Config::default();
        // A function that is translated when it is first called takes fuel then, and running out of it there is final.
        config.consume_fuel(true).compilation_mode(CompilationMode::Eager);
        let engine = Engine::new(&config);
        let module = wasmi::Module::new(&engine, module).map_err(|error| LoadError::Compile(error.into()))?;
        let linker = linker(&engine).map_err(|error| LoadError::Link(error.into()))?;
        let module = Self { module, linker: Arc::new(linker) };
        match module.instance(Duration::MAX).instantiate(Arc::default()) {
            Err(error) if matches!(error.kind(), ErrorKind::Linker(_)) => Err(LoadError::Link(error.into())),
            _ => Ok(module),
        }
    }

    pub(super) fn instance(&self, deadline: Duration) -> Instance {
        Instance { module: self.clone(), deadline, started: None }
    }
}

impl Instance {
    fn instantiate(&self, host: Arc<ModuleState>) -> Result<(Store<State>, wasmi::Instance), wasmi::Error> {
        let mut store = Store::new(self.module.linker.engine(), State { host, ends: self.ends() });
        store.set_fuel(SLICE)?;
        let instance = self.module.linker.instantiate_and_start(&mut store, &self.module.module)?;
        Ok((store, instance))
    }

    fn ends(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.deadline).unwrap_or(now + Duration::from_secs(u32::MAX.into()))
    }
}

impl WebAssemblyEngineProvider for Instance {
    fn init(&mut self, host: Arc<ModuleState>) -> Result<(), Box<dyn Error + Send + Sync>> {
        let (mut store, instance) = self.instantiate(host)?;
        let guest_call = instance
            .get_typed_func(&store, names::GUEST_CALL)
            .map_err(|_| "Guest call function (__guest_call) not exported by wasm module.")?;
        for name in names::REQUIRED_STARTS {
            if instance.get_func(&store, name).is_none() {
                continue;
            }
            let start = instance.get_typed_func::<(), ()>(&store, name)?;
            store.data_mut().ends = self.ends();
            match run(&mut store, &start, ()) {
                Ok(()) | Err(Stopped::Exit(0)) => {}
                Err(stopped @ Stopped::Deadline) => {
                    return Err(format!("Initialization failed: {name} init interrupted, {stopped}").into());
                }
                Err(stopped) => return Err(format!("Initialization failed: {stopped}").into()),
            }
        }
        self.started = Some(Started { store, guest_call });
        Ok(())
    }

    fn call(&mut self, operation: i32, payload: i32) -> Result<i32, Box<dyn Error + Send + Sync>> {
        let ends = self.ends();
        let Started { store, guest_call } = self.started.as_mut().ok_or("the instance is not started")?;
        store.data_mut().ends = ends;
        match run(store, guest_call, (operation, payload)) {
            Ok(result) => Ok(result),
            Err(stopped @ Stopped::Deadline) => Err(format!("guest code interrupted, {stopped}").into()),
            Err(stopped) => Err(stopped.into()),
        }
    }

    fn replace(&mut self, _: &[u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        Err("an instance runs the module it was made of".into())
    }
}

/// Calls a function of the guest, a slice at a time, until it returns or the time is over.
fn run<P: WasmParams, R: WasmResults>(
    store: &mut Store<State>,
    function: &TypedFunc<P, R>,
    parameters: P,
) -> Result<R, Stopped> {
    let slices = || {
        store.set_fuel(SLICE)?;
        let mut call = function.call_resumable(&mut *store, parameters)?;
        loop {
            call = match call {
                TypedResumableCall::Finished(result) => return Ok(Ok(result)),
                TypedResumableCall::HostTrap(trap) => return Ok(Err(Stopped::by(trap.host_error()))),
                TypedResumableCall::OutOfFuel(_) if Instant::now() >= store.data().ends => {
                    return Ok(Err(Stopped::Deadline));
                }
                TypedResumableCall::OutOfFuel(rest) => {
                    store.set_fuel(SLICE.max(rest.required_fuel()))?;
                    rest.resume(&mut *store)?
                }
            }
        }
    };
    slices().unwrap_or_else(|error: wasmi::Error| Err(Stopped::by(&error)))
}

/// What a guest may import.
fn linker(engine: &Engine) -> Result<Linker<State>, wasmi::Error> {
    let mut linker = Linker::new(engine);
    linker
        .func_wrap(WAPC, names::GUEST_REQUEST_FN, guest_request)?
        .func_wrap(WAPC, names::GUEST_RESPONSE_FN, guest_response)?
        .func_wrap(WAPC, names::GUEST_ERROR_FN, guest_error)?
        .func_wrap(WAPC, names::HOST_CALL, host_call)?
        .func_wrap(WAPC, names::HOST_RESPONSE_LEN_FN, |caller: Caller<State>| {
            length(caller.data().host.host_response_len())
        })?
        .func_wrap(WAPC, names::HOST_RESPONSE_FN, host_response)?
        .func_wrap(WAPC, names::HOST_ERROR_LEN_FN, |caller: Caller<State>| {
            length(caller.data().host.get_host_error().map_or(0, |error| error.len()))
        })?
        .func_wrap(WAPC, names::HOST_ERROR_FN, host_error)?
        .func_wrap(WAPC, names::HOST_CONSOLE_LOG, console_log)?
        .func_wrap(WASI, "random_get", random_get)?
        .func_wrap(WASI, "clock_time_get", clock_time_get)?
        // No environment: no variable, in no bytes.
        .func_wrap(WASI, "environ_sizes_get", |mut caller: Caller<State>, count: i32, size: i32| {
            write(&mut caller, count, &[0; 4])?;
            write(&mut caller, size, &[0; 4])?;
            Ok::<_, wasmi::Error>(SUCCESS)
        })?
        .func_wrap(WASI, "environ_get", |_: i32, _: i32| SUCCESS)?
        .func_wrap(WASI, "fd_write", fd_write)?
        .func_wrap(WASI, "proc_exit", |status: i32| Err::<(), _>(wasmi::Error::i32_exit(status)))?;
    Ok(linker)
}

fn guest_request(mut caller: Caller<State>, operation: i32, payload: i32) -> Result<(), wasmi::Error> {
    if let Some(request) = caller.data().host.get_guest_request() {
        write(&mut caller, payload, &request.msg)?;
        write(&mut caller, operation, request.operation.as_bytes())?;
    }
    Ok(())
}

fn guest_response(mut caller: Caller<State>, start: i32, length: i32) -> Result<(), wasmi::Error> {
    let response = read(&mut caller, start, length)?;
    caller.data().host.set_guest_response(response);
    Ok(())
}

fn guest_error(mut caller: Caller<State>, start: i32, length: i32) -> Result<(), wasmi::Error> {
    let error = text(&mut caller, start, length)?;
    caller.data().host.set_guest_error(error);
    Ok(())
}

#[allow(clippy::too_many_arguments)] // The signature is the waPC protocol's.
fn host_call(
    mut caller: Caller<State>,
    binding: i32,
    binding_length: i32,
    namespace: i32,
    namespace_length: i32,
    operation: i32,
    operation_length: i32,
    payload: i32,
    payload_length: i32,
) -> Result<i32, wasmi::Error> {
    let binding = text(&mut caller, binding, binding_length)?;
    let namespace = text(&mut caller, namespace, namespace_length)?;
    let operation = text(&mut caller, operation, operation_length)?;
    let payload = read(&mut caller, payload, payload_length)?;
    let answered = caller.data().host.do_host_call(&binding, &namespace, &operation, &payload).unwrap_or(0);
    if Instant::now() >= caller.data().ends {
        // The guest is interrupted before its next instruction.
        caller.set_fuel(0)?;
    }
    Ok(answered)
}

fn host_response(mut caller: Caller<State>, start: i32) -> Result<(), wasmi::Error> {
    let response = caller.data().host.with_host_response(<[u8]>::to_vec);
    write(&mut caller, start, &response.unwrap_or_default())
}

fn host_error(mut caller: Caller<State>, start: i32) -> Result<(), wasmi::Error> {
    let error = caller.data().host.get_host_error().unwrap_or_default();
    write(&mut caller, start, error.as_bytes())
}

fn console_log(mut caller: Caller<State>, start: i32, length: i32) -> Result<(), wasmi::Error> {
    let message = text(&mut caller, start, length)?;
    caller.data().host.do_console_log(&message);
    Ok(())
}

fn random_get(mut caller: Caller<State>, start: i32, length: i32) -> Result<i32, wasmi::Error> {
    Ok(match getrandom::fill(slice(&mut caller, start, length)?) {
        Ok(()) => SUCCESS,
        Err(_) => IO,
    })
}

/// Clock 0 is the time of day, 1 one that never goes back; both in nanoseconds.
fn clock_time_get(mut caller: Caller<State>, clock: i32, _precision: i64, time: i32) -> Result<i32, wasmi::Error> {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let since = match clock {
        0 => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        1 => BEGIN.elapsed(),
        _ => return Ok(INVALID),
    };
    write(&mut caller, time, &u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).to_le_bytes())?;
    Ok(SUCCESS)
}

/// Standard output and standard error are those of this process; there are no other files.
fn fd_write(mut caller: Caller<State>, file: i32, list: i32, count: i32, written: i32) -> Result<i32, wasmi::Error> {
    let mut data = Vec::new();
    for vector in read(&mut caller, list, count.saturating_mul(8))?.chunks_exact(8) {
        let number = |at: usize| i32::from_le_bytes([vector[at], vector[at + 1], vector[at + 2], vector[at + 3]]);
        data.extend(read(&mut caller, number(0), number(4))?);
    }
    let result = match file {
        1 => io::stdout().write_all(&data),
        2 => io::stderr().write_all(&data),
        _ => return Ok(BAD_FILE),
    };
    write(&mut caller, written, &length(data.len()).to_le_bytes())?;
    Ok(result.map_or(IO, |()| SUCCESS))
}

fn text(caller: &mut Caller<State>, start: i32, length: i32) -> Result<String, wasmi::Error> {
    String::from_utf8(read(caller, start, length)?).map_err(|error| wasmi::Error::new(error.to_string()))
}

fn read(caller: &mut Caller<State>, start: i32, length: i32) -> Result<Vec<u8>, wasmi::Error> {
    slice(caller, start, length).map(|slice| slice.to_vec())
}

fn write(caller: &mut Caller<State>, start: i32, data: &[u8]) -> Result<(), wasmi::Error> {
    slice(caller, start, length(data.len()))?.copy_from_slice(data);
    Ok(())
}

/// A part of the guest's memory. Addresses are unsigned, whatever their type.
fn slice<'a>(caller: &'a mut Caller<State>, start: i32, length: i32) -> Result<&'a mut [u8], wasmi::Error> {
    let memory = caller.get_export("memory").and_then(Extern::into_memory);
    let memory: Memory = memory.ok_or_else(|| wasmi::Error::new("the guest exports no memory"))?;
    let (start, length) = (start as u32 as usize, length as u32 as usize);
    let part = memory.data_mut(caller.as_context_mut()).get_mut(start..start + length);
    part.ok_or_else(|| wasmi::Error::new("out of bounds memory access"))
}

/// A length as the guest is told it. Its memory is no longer than this type can say.
fn length(length: usize) -> i32 {
    length as u32 as i32
}
