//! Boundary tensors between a device and the host, and the device's own time.
//!
//! On a GPU copies go through pinned buffers on a stream of their own, and events order them and libtorch's kernels: nothing
//! waits for the whole device. A tensor may arrive beside kernels that do not read it. One that departs is serial with its
//! action, since a stage waits for each action's bytes before it gives the device the next. On the CPU there is nothing to
//! copy between, and no clock but the host's.

use bace_cuda::{Context, Copying, DeviceRange, Driver, Event, PinnedBuffer, Pool, Stream};
use tch::Tensor;

use crate::boundary::{BoundaryShape, Element, from_bytes, to_bytes};
use crate::device::Device;
use crate::error::Error;

/// Tensors each way that may be between host and device: the host fills or empties one while the device copies the other.
const UNDER_WAY: usize = 2;

/// The way of one stage's boundary tensors to and from its device.
#[derive(Debug)]
pub struct Transfer {
    shape: BoundaryShape,
    element: Element,
    device: Device,
    /// Absent on the CPU.
    pinned: Option<Pinned>,
}

/// A tensor on its way to the host. It may be waited for on any thread.
#[derive(Debug)]
pub enum Departure {
    /// It is there.
    Ready(Vec<u8>),
    /// The device copies it.
    Copying(Copying),
}

/// Copies beside libtorch's kernels.
#[derive(Debug)]
struct Pinned {
    context: Context,
    compute: Stream,
    copies: Stream,
    departures: Pool<PinnedBuffer>,
    arrivals: Pool<PinnedBuffer>,
    places: [Option<Place>; UNDER_WAY],
    next_place: usize,
}

/// Where a tensor arrives on the device. Memory that libtorch gives anew may still be in use by kernels that were queued
/// before, so that copying there would have to wait for them; this is only waited for by its own last reader.
#[derive(Debug)]
struct Place {
    tensor: Tensor,
    read: Event,
    arrival: Option<Copying>,
}

impl Transfer {
    /// The way to and from `device` of tensors of this shape.
    ///
    /// # Errors
    /// [`Error::WithoutCuda`], [`Error::Cuda`], [`Error::NotInLibtorch`].
    pub fn new(device: Device, shape: BoundaryShape, element: Element) -> Result<Self, Error> {
        device.resolve()?;
        let pinned = match device {
            Device::Cpu => None,
            Device::Cuda(index) => Some(Pinned::new(Driver::load()?.context(index)?)?),
        };
        Ok(Self {
            shape,
            element,
            device,
            pinned,
        })
    }

    /// The tensor (sequences, tokens, hidden) that `bytes` hold, in the numbers in which it travelled. On a GPU it is there
    /// for all work that is queued from now on.
    ///
    /// # Errors
    /// [`Error::Length`] if bytes and shape contradict each other, [`Error::Cuda`].
    pub fn arrive(&mut self, bytes: &[u8]) -> Result<Tensor, Error> {
        let Some(pinned) = &mut self.pinned else {
            return from_bytes(bytes, self.shape, self.element, self.device);
        };
        let expected = self.shape.bytes(self.element);
        if bytes.len() != expected {
            return Err(Error::Length {
                expected,
                actual: bytes.len(),
            });
        }
        let empty = || {
            let device = self.device.resolve()?;
            let options = (self.element.kind(), device);
            Ok(Tensor::empty(self.shape.dimensions(), options))
        };
        pinned.arrive(bytes, empty)
    }

    /// Begins to bring a tensor to the host, once what is queued so far is done.
    ///
    /// # Errors
    /// [`Error::Cuda`].
    pub fn depart(&mut self, tensor: &Tensor) -> Result<Departure, Error> {
        match &mut self.pinned {
            None => Ok(Departure::Ready(to_bytes(tensor, self.element))),
            Some(pinned) => {
                let wire = tensor.detach().to_kind(self.element.kind()).contiguous();
                pinned.depart(wire).map(Departure::Copying)
            }
        }
    }
}

impl Departure {
    /// Waits until the tensor is there; its elements row by row, little endian.
    ///
    /// # Errors
    /// [`Error::Cuda`]; also for what went wrong in the work before it.
    pub fn wait(self) -> Result<Vec<u8>, Error> {
        match self {
            Self::Ready(bytes) => Ok(bytes),
            // Copied once more, since pinned memory is short and bytes may wait long for their link.
            Self::Copying(copying) => Ok(copying.wait()?.to_vec()),
        }
    }
}

impl Pinned {
    fn new(context: Context) -> Result<Self, Error> {
        Ok(Self {
            compute: context.legacy_default_stream(),
            copies: context.stream()?,
            departures: Pool::new(UNDER_WAY),
            arrivals: Pool::new(UNDER_WAY),
            places: [const { None }; UNDER_WAY],
            next_place: 0,
            context,
        })
    }

    fn arrive(
        &mut self,
        bytes: &[u8],
        empty: impl FnOnce() -> Result<Tensor, Error>,
    ) -> Result<Tensor, Error> {
        let place = &mut self.places[self.next_place];
        self.next_place = (self.next_place + 1) % UNDER_WAY;
        let place = match place {
            Some(place) => place,
            None => {
                let read = self.context.event()?;
                let tensor = empty()?;
                // After whatever had this memory before.
                self.compute.record(&read)?;
                place.insert(Place {
                    tensor,
                    read,
                    arrival: None,
                })
            }
        };
        // Long done: kernels that follow it have been queued since.
        drop(place.arrival.take());
        let mut buffer = self.arrivals.take(|| self.context.pinned(bytes.len()))?;
        buffer.copy_from_slice(bytes);
        self.copies.follow(&place.read)?;
        let onto = (
            range(&place.tensor),
            Box::new(place.tensor.shallow_clone()) as _,
        );
        let arrival = self.copies.copy_to_device(buffer, onto)?;
        self.compute.follow(arrival.done())?;
        place.arrival = Some(arrival);
        let arrived = place.tensor.copy();
        self.compute.record(&place.read)?;
        Ok(arrived)
    }

    fn depart(&mut self, wire: Tensor) -> Result<Copying, Error> {
        let computed = self.context.event()?;
        self.compute.record(&computed)?;
        self.copies.follow(&computed)?;
        let from = range(&wire);
        let buffer = self.departures.take(|| self.context.pinned(from.bytes))?;
        Ok(self.copies.copy_to_host((from, Box::new(wire)), buffer)?)
    }
}

fn range(tensor: &Tensor) -> DeviceRange {
    DeviceRange {
        address: tensor.data_ptr() as u64,
        bytes: tensor.numel() * tensor.kind().elt_size_in_bytes(),
    }
}

/// How long a device works, by its own clock.
#[derive(Debug)]
pub struct DeviceClock {
    /// Absent on the CPU.
    marks: Option<Marks>,
}

#[derive(Debug)]
struct Marks {
    compute: Stream,
    begin: Event,
    end: Event,
}

impl DeviceClock {
    /// The clock of `device`.
    ///
    /// # Errors
    /// [`Error::Cuda`].
    pub fn new(device: Device) -> Result<Self, Error> {
        let marks = match device {
            Device::Cpu => None,
            Device::Cuda(index) => {
                let context = Driver::load()?.context(index)?;
                Some(Marks {
                    compute: context.legacy_default_stream(),
                    begin: context.event()?,
                    end: context.event()?,
                })
            }
        };
        Ok(Self { marks })
    }

    /// Work begins.
    ///
    /// # Errors
    /// [`Error::Cuda`].
    pub fn begin(&self) -> Result<(), Error> {
        if let Some(marks) = &self.marks {
            marks.compute.record(&marks.begin)?;
        }
        Ok(())
    }

    /// Waits until all kernels queued so far are done, and not for copies beside them; the device's seconds since
    /// [`DeviceClock::begin`], or none where the host's clock is the device's.
    ///
    /// # Errors
    /// [`Error::Cuda`]; also for what went wrong in that work.
    pub fn end(&self) -> Result<Option<f64>, Error> {
        let Some(marks) = &self.marks else {
            return Ok(None);
        };
        marks.compute.record(&marks.end)?;
        marks.end.wait()?;
        Ok(Some(marks.begin.seconds_to(&marks.end)?))
    }
}

#[cfg(test)]
mod tests {
    use bace_fake_cuda::{Kind, is_outer};

    use super::*;

    const SHAPE: BoundaryShape = BoundaryShape {
        sequences: 2,
        tokens: 3,
        hidden: 4,
    };

    fn tensor(first: i64) -> Tensor {
        let values: Vec<f32> = (first..first + 24)
            .map(|value| value as f32 / 7.0)
            .collect();
        Tensor::from_slice(&values).view([2, 3, 4])
    }

    #[test]
    fn on_the_cpu_a_tensor_is_there_at_once() {
        for element in [Element::Fp32, Element::Bf16] {
            let mut transfer = Transfer::new(Device::Cpu, SHAPE, element).unwrap();
            let bytes = transfer.depart(&tensor(0)).unwrap().wait().unwrap();
            assert_eq!(bytes, to_bytes(&tensor(0), element));
            let back = transfer.arrive(&bytes).unwrap();
            assert_eq!(to_bytes(&back, element), bytes);
            assert!(transfer.arrive(&bytes[1..]).is_err());
        }
        let clock = DeviceClock::new(Device::Cpu).unwrap();
        clock.begin().unwrap();
        assert_eq!(clock.end().unwrap(), None);
    }

    /// The fake copies only when somebody waits: bytes that are right were waited for, and a tensor outlives its handle.
    #[test]
    fn pinned_departures_are_right_and_bounded() {
        let name = "transfer::tests::pinned_departures_are_right_and_bounded";
        if is_outer(name, Kind::Whole, |_| {}) {
            return;
        }
        let context = Driver::load().unwrap().context(0).unwrap();
        let mut pinned = Pinned::new(context).unwrap();
        for first in 0..10 {
            let departures = [first, first + 100].map(|first| {
                let wire = tensor(first);
                let expected = to_bytes(&wire, Element::Fp32);
                (Departure::Copying(pinned.depart(wire).unwrap()), expected)
            });
            for (departure, expected) in departures {
                let bytes = std::thread::spawn(|| departure.wait().unwrap());
                assert_eq!(bytes.join().unwrap(), expected);
            }
        }
        assert_eq!(pinned.departures.made(), UNDER_WAY);
        // One that nobody waits for gives its buffer back all the same.
        drop(pinned.depart(tensor(5)).unwrap());
        let _both = [6, 7].map(|first| pinned.depart(tensor(first)).unwrap());
        assert_eq!(pinned.departures.made(), UNDER_WAY);
    }

    #[test]
    fn pinned_arrivals_use_their_places_in_turn() {
        let name = "transfer::tests::pinned_arrivals_use_their_places_in_turn";
        if is_outer(name, Kind::Whole, |_| {}) {
            return;
        }
        let context = Driver::load().unwrap().context(0).unwrap();
        let mut pinned = Pinned::new(context).unwrap();
        for first in 0..6 {
            let bytes = to_bytes(&tensor(first), Element::Fp32);
            let empty = || Ok(tensor(-1).zeros_like());
            drop(pinned.arrive(&bytes, empty).unwrap());
            let place = first as usize % UNDER_WAY;
            let place = pinned.places[place].as_ref().unwrap();
            // The fake's kernels are the CPU's, which do not wait for a stream: what is in the place once its copy is done
            // is what a kernel would read.
            place.arrival.as_ref().unwrap().done().wait().unwrap();
            assert!(place.tensor == tensor(first), "{first}");
        }
        assert!(pinned.arrivals.made() <= UNDER_WAY);
        let clock = Marks {
            compute: pinned.context.legacy_default_stream(),
            begin: pinned.context.event().unwrap(),
            end: pinned.context.event().unwrap(),
        };
        let clock = DeviceClock { marks: Some(clock) };
        clock.begin().unwrap();
        assert!(clock.end().unwrap().unwrap() >= 0.0);
    }
}
