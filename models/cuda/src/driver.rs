//! The driver's calls: its library, its devices, and what lives on one.
//!
//! Each of a context's parts keeps it alive. Every call makes the context that it needs the thread's own, since the driver
//! remembers one for each thread and libtorch changes it.
#![expect(
    unsafe_code,
    reason = "this file alone calls NVIDIA's driver, which has a C interface, and views the memory that it pins"
)]

use std::ffi::{CStr, c_int, c_void};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};

use cudarc::driver::{DriverError, result, sys};
use libloading::Library;

use crate::device::{ComputeCapability, CudaVersion, DeviceInfo, DeviceMemory};
use crate::error::{CudaError, DriverFailure};

/// What tells a driver's version and its errors.
const FIRST_SYMBOLS: [&str; 4] = [
    "cuInit",
    "cuDriverGetVersion",
    "cuGetErrorName",
    "cuGetErrorString",
];
/// All else that is called here, as cudarc looks it up.
const SYMBOLS: [&str; 24] = [
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceGetUuid_v2",
    "cuDeviceTotalMem_v2",
    "cuDeviceGetAttribute",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxSetCurrent",
    "cuMemGetInfo_v2",
    "cuPointerGetAttribute",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuEventElapsedTime_v2",
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
];
/// Which devices the driver shows.
const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// The driver, loaded and started, of a version that serves libtorch.
#[derive(Debug, Clone, Copy)]
pub struct Driver {
    version: CudaVersion,
}

impl Driver {
    /// Loads and starts the driver; what it has once loaded stays as long as the process.
    ///
    /// # Errors
    /// [`CudaError::NoLibrary`], [`CudaError::MissingSymbol`], [`CudaError::TooOld`], [`CudaError::Start`],
    /// [`CudaError::NoDevice`] where a driver starts only with a device.
    pub fn load() -> Result<Self, CudaError> {
        static LIBRARY: OnceLock<Result<Library, String>> = OnceLock::new();
        let library = LIBRARY.get_or_init(open).as_ref();
        let library = library.map_err(|reason| CudaError::NoLibrary {
            reason: reason.clone(),
        })?;
        check_symbols(library, &FIRST_SYMBOLS)?;
        let mut number: c_int = 0;
        // SAFETY: the symbol is there and writes one integer.
        let told = unsafe { sys::cuDriverGetVersion(&mut number) }.result();
        told.map_err(|error| CudaError::Start(failure(error)))?;
        let version = CudaVersion::of(number);
        if version < CudaVersion::NEEDED {
            return Err(CudaError::TooOld { supported: version });
        }
        check_symbols(library, &SYMBOLS)?;
        match result::init() {
            Ok(()) => Ok(Self { version }),
            Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => Err(no_device()),
            Err(error) => Err(CudaError::Start(failure(error))),
        }
    }

    /// The newest CUDA that it supports.
    pub fn version(self) -> CudaVersion {
        self.version
    }

    /// All devices that `CUDA_VISIBLE_DEVICES` leaves visible, at least one.
    ///
    /// # Errors
    /// [`CudaError::NoDevice`], [`CudaError::Start`] where the driver cannot count them, [`CudaError::Refused`].
    pub fn devices(self) -> Result<Vec<DeviceInfo>, CudaError> {
        match self.count()? {
            0 => Err(no_device()),
            count => (0..count).map(|index| self.device(index)).collect(),
        }
    }

    /// The device `index`.
    ///
    /// # Errors
    /// [`CudaError::NoSuchDevice`], [`CudaError::Refused`].
    pub fn device(self, index: u32) -> Result<DeviceInfo, CudaError> {
        let device = self.handle(index)?;
        let refused = |error| refused("look at", index, error);
        let attribute = |which| {
            // SAFETY: the handle is the driver's own.
            let value = unsafe { result::device::get_attribute(device, which) };
            value.map(|value| u32::try_from(value).unwrap_or(0))
        };
        use sys::CUdevice_attribute as Attribute;
        let mhz = |which| {
            let khz = attribute(which).ok().filter(|&khz| khz > 0);
            khz.map(|khz| khz / 1000)
        };
        let uuid = result::device::get_uuid(device).map_err(refused)?;
        // SAFETY: the handle is the driver's own.
        let memory_bytes = unsafe { result::device::total_mem(device) }.map_err(refused)? as u64;
        Ok(DeviceInfo {
            index,
            name: result::device::get_name(device).map_err(refused)?,
            uuid: DeviceInfo::uuid_in_words(uuid.bytes.map(|byte| byte as u8)),
            memory_bytes,
            capability: ComputeCapability {
                major: attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
                    .map_err(refused)?,
                minor: attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
                    .map_err(refused)?,
            },
            multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
                .map_err(refused)?,
            clock_mhz: mhz(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE),
            memory_clock_mhz: mhz(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE),
        })
    }

    /// What the process holds and works with on the device `index`. libtorch uses the same. The first one of a process
    /// takes some hundred milliseconds and some hundred megabytes of the device.
    ///
    /// # Errors
    /// [`CudaError::NoSuchDevice`], [`CudaError::Refused`].
    pub fn context(self, index: u32) -> Result<Context, CudaError> {
        let device = self.handle(index)?;
        // SAFETY: the handle is the driver's own.
        let raw = unsafe { result::primary_ctx::retain(device) };
        let raw = raw.map_err(|error| refused("start to use", index, error))?;
        Ok(Context(Arc::new(Retained { index, device, raw })))
    }

    fn count(self) -> Result<u32, CudaError> {
        let count =
            result::device::get_count().map_err(|error| CudaError::Start(failure(error)))?;
        Ok(u32::try_from(count).unwrap_or(0))
    }

    fn handle(self, index: u32) -> Result<sys::CUdevice, CudaError> {
        let available = self.count()?;
        if index >= available {
            return Err(match available {
                0 => no_device(),
                _ => CudaError::NoSuchDevice {
                    index,
                    available,
                    visible: std::env::var(VISIBLE).ok(),
                },
            });
        }
        let number = c_int::try_from(index).expect("a device is one of those counted");
        result::device::get(number).map_err(|error| refused("find", index, error))
    }
}

/// Opens the library by the names that cudarc will look for, in its order, so that both use the same.
fn open() -> Result<Library, String> {
    let mut reason = String::new();
    for name in cudarc::get_lib_name_candidates("cuda") {
        // SAFETY: the driver's library does nothing surprising when it is loaded.
        match unsafe { Library::new(&name) } {
            Ok(library) => return Ok(library),
            // Names that nothing has tell less than a file that cannot be loaded.
            Err(error) => {
                let said = loaders_words(&error);
                if reason.is_empty() || !said.contains("No such file") {
                    reason = said;
                }
            }
        }
    }
    Err(reason)
}

/// What the loader said, which stands behind the error's own words.
fn loaders_words(error: &libloading::Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), ToString::to_string)
}

fn check_symbols(library: &Library, symbols: &[&'static str]) -> Result<(), CudaError> {
    for &symbol in symbols {
        // SAFETY: the symbol is looked up and not used.
        if unsafe { library.get::<*const c_void>(symbol) }.is_err() {
            return Err(CudaError::MissingSymbol { symbol });
        }
    }
    Ok(())
}

fn no_device() -> CudaError {
    CudaError::NoDevice {
        visible: std::env::var(VISIBLE).ok(),
    }
}

fn refused(action: &'static str, device: u32, error: DriverError) -> CudaError {
    CudaError::Refused {
        action,
        device,
        failure: failure(error),
    }
}

fn failure(error: DriverError) -> DriverFailure {
    let words = |text: Result<&CStr, DriverError>| {
        text.map_or_else(
            |_| "unknown".to_owned(),
            |text| text.to_string_lossy().into_owned(),
        )
    };
    DriverFailure {
        code: error.0 as u32,
        words: format!(
            "{}: {}",
            words(error.error_name()),
            words(error.error_string())
        ),
    }
}

/// One process's place on a device, shared by all that lives there.
#[derive(Debug, Clone)]
pub struct Context(Arc<Retained>);

#[derive(Debug)]
struct Retained {
    index: u32,
    device: sys::CUdevice,
    raw: sys::CUcontext,
}

// SAFETY: a primary context may be used from all threads.
unsafe impl Send for Retained {}
// SAFETY: as above; nothing here changes it.
unsafe impl Sync for Retained {}

impl Drop for Retained {
    fn drop(&mut self) {
        // SAFETY: it was retained once. A driver that cannot release it is at its end anyway.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

impl Context {
    /// Memory of the device now.
    ///
    /// # Errors
    /// [`CudaError::Refused`].
    pub fn memory(&self) -> Result<DeviceMemory, CudaError> {
        let (free, total) = self.call("read the memory of", result::mem_get_info)?;
        Ok(DeviceMemory {
            free_bytes: free as u64,
            total_bytes: total as u64,
        })
    }

    /// A stream of its own, for copies beside libtorch's kernels.
    ///
    /// # Errors
    /// [`CudaError::Refused`].
    pub fn stream(&self) -> Result<Stream, CudaError> {
        let create = || result::stream::create(result::stream::StreamKind::NonBlocking);
        let raw = self.call("make a stream on", create)?;
        Ok(Stream {
            context: self.clone(),
            raw,
        })
    }

    /// The stream on which libtorch computes unless it is told otherwise.
    pub fn legacy_default_stream(&self) -> Stream {
        Stream {
            context: self.clone(),
            raw: result::stream::null(),
        }
    }

    /// A mark on streams that knows its time. Who waits for it sleeps.
    ///
    /// # Errors
    /// [`CudaError::Refused`].
    pub fn event(&self) -> Result<Event, CudaError> {
        let create = || result::event::create(sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC);
        let raw = self.call("make an event on", create)?;
        Ok(Event {
            context: self.clone(),
            raw,
        })
    }

    /// Host memory of `bytes` that the device copies to and from by itself. The driver takes long to make it.
    ///
    /// # Errors
    /// [`CudaError::Refused`].
    pub fn pinned(&self, bytes: usize) -> Result<PinnedBuffer, CudaError> {
        // The driver makes no empty buffers.
        let size = bytes.max(1);
        let allocate = || {
            // SAFETY: it is filled before anyone can read it.
            let memory = unsafe { result::malloc_host(size, 0) }?;
            // SAFETY: the memory is fresh and as long as that.
            unsafe { memory.cast::<u8>().write_bytes(0, size) };
            Ok(memory.cast())
        };
        let memory: *mut u8 = self.call("pin host memory for", allocate)?;
        Ok(PinnedBuffer {
            memory: NonNull::new(memory).expect("the driver gives memory or an error"),
            bytes,
            context: self.clone(),
        })
    }

    /// Calls the driver with this context as the thread's.
    fn call<T>(
        &self,
        action: &'static str,
        call: impl FnOnce() -> Result<T, DriverError>,
    ) -> Result<T, CudaError> {
        // SAFETY: the context is retained.
        let done = unsafe { result::ctx::set_current(self.0.raw) }.and_then(|()| call());
        done.map_err(|error| refused(action, self.0.index, error))
    }

    /// Whether both ends of a range are the device's memory: so that a wrong address is an error and no write elsewhere.
    fn check(&self, action: &'static str, range: DeviceRange) -> Result<(), CudaError> {
        let last = range.address + range.bytes.saturating_sub(1) as u64;
        for address in [range.address, last] {
            let mut kind: u32 = 0;
            let attribute = sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE;
            let ask = || {
                // SAFETY: this attribute is one 32-bit number.
                unsafe { sys::cuPointerGetAttribute((&raw mut kind).cast(), attribute, address) }
                    .result()
            };
            let told = self.call(action, ask);
            if told.is_err() || kind != sys::CUmemorytype::CU_MEMORYTYPE_DEVICE as u32 {
                return Err(CudaError::NotOnDevice {
                    action,
                    device: self.0.index,
                });
            }
        }
        Ok(())
    }
}

/// A stretch of a device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRange {
    /// Where it begins, as the device counts.
    pub address: u64,
    /// How long it is.
    pub bytes: usize,
}

/// A queue of work on a device.
#[derive(Debug)]
pub struct Stream {
    context: Context,
    /// Null for the legacy default stream.
    raw: sys::CUstream,
}

// SAFETY: streams may be used from all threads.
unsafe impl Send for Stream {}

impl Stream {
    /// Marks all work given to it so far.
    ///
    /// # Errors
    /// [`CudaError::Refused`].
    pub fn record(&self, event: &Event) -> Result<(), CudaError> {
        // SAFETY: both live.
        let record = || unsafe { result::event::record(event.raw, self.raw) };
        self.context.call("record an event on", record)
    }

    /// Lets work given to it from now on begin only once `event`'s mark is reached. The caller does not wait.
    ///
    /// # Errors
    /// [`CudaError::Refused`].
    pub fn follow(&self, event: &Event) -> Result<(), CudaError> {
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: both live.
        let wait = || unsafe { result::stream::wait_event(self.raw, event.raw, flags) };
        self.context.call("order streams on", wait)
    }

    /// A mark that this stream can record.
    pub(crate) fn event(&self) -> Result<Event, CudaError> {
        self.context.event()
    }

    /// Waits until all work given to it so far is done.
    pub(crate) fn synchronize(&self) -> Result<(), CudaError> {
        // SAFETY: it lives.
        let wait = || unsafe { result::stream::synchronize(self.raw) };
        self.context.call("wait for a stream on", wait)
    }

    /// Begins to copy device memory to the host; `to` must not be used before the copy is done.
    pub(crate) fn begin_to_host(
        &self,
        from: DeviceRange,
        to: &mut PinnedBuffer,
    ) -> Result<(), CudaError> {
        const ACTION: &str = "copy to the host from";
        assert_eq!(from.bytes, to.bytes, "a copy has one length");
        self.context.check(ACTION, from)?;
        // SAFETY: the range is the device's, the buffer as long, and `Copying` keeps both until the copy is done.
        let copy = || unsafe { result::memcpy_dtoh_async(to, from.address, self.raw) };
        self.context.call(ACTION, copy)
    }

    /// Begins to copy host memory to the device; neither may change before the copy is done.
    pub(crate) fn begin_to_device(
        &self,
        from: &PinnedBuffer,
        to: DeviceRange,
    ) -> Result<(), CudaError> {
        const ACTION: &str = "copy from the host to";
        assert_eq!(to.bytes, from.bytes, "a copy has one length");
        self.context.check(ACTION, to)?;
        // SAFETY: as above.
        let copy = || unsafe { result::memcpy_htod_async(to.address, from, self.raw) };
        self.context.call(ACTION, copy)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            // SAFETY: nobody else has it, and work under way is kept by who waits for it.
            let destroy = || unsafe { result::stream::destroy(self.raw) };
            // A driver that cannot destroy it is at its end anyway.
            let _ = self.context.call("end a stream on", destroy);
        }
    }
}

/// A mark on a stream.
#[derive(Debug)]
pub struct Event {
    context: Context,
    raw: sys::CUevent,
}

// SAFETY: events may be used from all threads.
unsafe impl Send for Event {}

impl Event {
    /// Waits until the work marked last is done.
    ///
    /// # Errors
    /// [`CudaError::Refused`]; also for what went wrong in that work.
    pub fn wait(&self) -> Result<(), CudaError> {
        // SAFETY: it lives.
        let wait = || unsafe { result::event::synchronize(self.raw) };
        self.context.call("wait for", wait)
    }

    /// Seconds on the device from this mark to `later`, to about half a microsecond; both have been waited for.
    ///
    /// # Errors
    /// [`CudaError::Refused`]; also where one was not reached yet.
    pub fn seconds_to(&self, later: &Self) -> Result<f64, CudaError> {
        // SAFETY: both live.
        let elapsed = || unsafe { result::event::elapsed(self.raw, later.raw) };
        let milliseconds = self.context.call("read the time of an event on", elapsed)?;
        Ok(f64::from(milliseconds) / 1e3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: nobody else has it; the driver keeps what a stream still needs.
        let destroy = || unsafe { result::event::destroy(self.raw) };
        let _ = self.context.call("end an event on", destroy);
    }
}

/// Host memory that stays where it is, so that the device copies it by itself.
#[derive(Debug)]
pub struct PinnedBuffer {
    memory: NonNull<u8>,
    bytes: usize,
    context: Context,
}

// SAFETY: it is plain memory with one owner.
unsafe impl Send for PinnedBuffer {}
// SAFETY: it is read alone where it is shared.
unsafe impl Sync for PinnedBuffer {}

impl Deref for PinnedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the driver gave as many bytes, and they were written at first.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.bytes) }
    }
}

impl DerefMut for PinnedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and there is one owner.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.bytes) }
    }
}

impl Drop for PinnedBuffer {
    fn drop(&mut self) {
        let memory = self.memory.as_ptr().cast();
        // SAFETY: the driver gave it, and no copy is under way, since `Copying` would own it.
        let free = || unsafe { result::free_host(memory) };
        let _ = self.context.call("unpin host memory for", free);
    }
}
