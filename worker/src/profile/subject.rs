//! A stage that is measured, through the very interface by which a worker trains it.

use std::time::Instant;

use bace_api::{
    Attempt, ComputePlan, ComputeRung, Iteration, Job, JobId, MicroBatch, Prepare, ProfileRequest,
    Schedule, StageIndex,
};
use bace_models::{LayerShape, MicroBatchShape, Part, StagePlace, median};
use bace_stage::{ComputeError, Computer, StageCompute};
use bace_torch::{BoundaryShape, Device, DeviceClock, Element, Error, Precision, Transfer};
use bytes::Bytes;

use crate::torch::Torch;

/// So small a step that no weight goes anywhere, however often it is taken.
const LEARNING_RATE: f64 = 1e-6;
/// Size of the gradients that stages get: as small as those of a mean loss.
const GRADIENT_SIZE: f32 = 1e-3;

/// What stages are made with.
pub struct Workshop<'a> {
    /// libtorch, ready.
    pub torch: &'a Torch,
    /// Its device.
    pub device: Device,
    /// In which numbers it computes.
    pub precision: Precision,
    /// What is asked for.
    pub request: &'a ProfileRequest,
}

/// A loaded stage with what its neighbours would send it.
pub struct Subject<'a> {
    compute: Box<dyn StageCompute + 'a>,
    input: Option<Bytes>,
    gradient: Option<Bytes>,
    iteration: u32,
    micro_batches: u32,
}

/// A boundary tensor that goes onto the device and back, the way it does for stages.
pub struct Copies {
    transfer: Transfer,
    clock: DeviceClock,
    bytes: Bytes,
}

impl<'a> Workshop<'a> {
    /// Loads a stage of `layers` layers that takes `micro_batches` an iteration.
    pub fn load(
        &self,
        layers: u32,
        place: StagePlace,
        micro_batches: u32,
    ) -> Result<Subject<'a>, ComputeError> {
        let prepare = prepare(
            &self.request.model,
            &self.request.shape,
            layers,
            place,
            micro_batches,
        );
        let torch: &'a Torch = self.torch;
        Ok(Subject {
            compute: torch.load(&prepare)?,
            input: (!place.holds_embedding()).then(|| self.tensor(1.0)),
            gradient: (!place.holds_head()).then(|| self.tensor(GRADIENT_SIZE)),
            iteration: 0,
            micro_batches,
        })
    }

    /// Seconds that a stage of `layers` layers needs until it could train; it is dropped then.
    pub fn set_up(&self, layers: u32, place: StagePlace) -> Result<f64, ComputeError> {
        let request = self.request;
        let prepare = prepare(&request.model, &request.shape, layers, place, 1);
        let begin = Instant::now();
        let mut compute = self.torch.load(&prepare)?;
        compute.rehearse()?;
        Ok(begin.elapsed().as_secs_f64())
    }

    /// Gets a boundary tensor's way ready.
    pub fn copies(&self) -> Result<Copies, Error> {
        let shape = BoundaryShape {
            sequences: self.request.shape.sequences,
            tokens: self.request.shape.sequence,
            hidden: self.request.model.hidden,
        };
        let element = Element::of_size(self.request.shape.bytes_per_element)?;
        Ok(Copies {
            transfer: Transfer::new(self.device, shape, element)?,
            clock: DeviceClock::new(self.device)?,
            bytes: self.tensor(1.0),
        })
    }

    /// A boundary tensor of numbers between −`size` and `size` that repeat slowly: zeros could be computed faster.
    fn tensor(&self, size: f32) -> Bytes {
        let shape = &self.request.shape;
        let elements = shape.tokens() * u64::from(self.request.model.hidden);
        let values = (0..elements).map(|index| size * (index as f32 * 0.7).sin());
        let bytes: Vec<u8> = match shape.bytes_per_element {
            2 => values
                .flat_map(|value| ((value.to_bits() >> 16) as u16).to_le_bytes())
                .collect(),
            _ => values.flat_map(f32::to_le_bytes).collect(),
        };
        Bytes::from(bytes)
    }
}

impl Copies {
    /// Seconds from bytes until the device has the tensor, and from there until its bytes are back.
    pub fn visit(&mut self) -> Result<[f64; 2], Error> {
        let begin = Instant::now();
        self.clock.begin()?;
        let tensor = self.transfer.arrive(&self.bytes)?;
        self.clock.end()?;
        let between = Instant::now();
        self.clock.begin()?;
        let departure = self.transfer.depart(&tensor)?;
        // As a stage does: kernels first, the copy beside them.
        self.clock.end()?;
        let back = Bytes::from(departure.wait()?);
        let end = Instant::now();
        debug_assert_eq!(back.len(), self.bytes.len());
        Ok([between - begin, end - between].map(|time| time.as_secs_f64()))
    }
}

impl Subject<'_> {
    /// Trains an iteration, each micro-batch forward and at once backward; the median seconds of all but the first, which
    /// brings the stage back into the caches, and those of the step.
    pub fn visit(&mut self) -> Result<Part<f64>, ComputeError> {
        let (mut forwards, mut backwards) = (Vec::new(), Vec::new());
        for index in 0..self.micro_batches {
            let begin = Instant::now();
            self.forward(index)?;
            let between = Instant::now();
            self.backward(index)?;
            if index > 0 {
                forwards.push((between - begin).as_secs_f64());
                backwards.push(between.elapsed().as_secs_f64());
            }
        }
        let begin = Instant::now();
        self.step()?;
        Ok(Part {
            step_s: begin.elapsed().as_secs_f64(),
            forward_s: median(&forwards),
            backward_s: median(&backwards),
        })
    }

    /// Trains an iteration, all micro-batches forward and then all backward.
    pub fn fill(&mut self) -> Result<(), ComputeError> {
        for index in 0..self.micro_batches {
            self.forward(index)?;
        }
        for index in 0..self.micro_batches {
            self.backward(index)?;
        }
        self.step()
    }

    fn forward(&mut self, index: u32) -> Result<(), ComputeError> {
        let iteration = Iteration(self.iteration);
        let forwarded = self
            .compute
            .forward(iteration, MicroBatch(index), self.input.clone());
        forwarded.map(drop)
    }

    fn backward(&mut self, index: u32) -> Result<(), ComputeError> {
        let gradient = self.gradient.clone();
        self.compute.backward(MicroBatch(index), gradient).map(drop)
    }

    fn step(&mut self) -> Result<(), ComputeError> {
        self.iteration += 1;
        self.compute.step()
    }
}

/// A stage of `layers` layers of a model that has as many more as its place asks for.
fn prepare(
    model: &LayerShape,
    shape: &MicroBatchShape,
    layers: u32,
    place: StagePlace,
    micro_batches: u32,
) -> Prepare {
    let before = u32::from(!place.holds_embedding());
    let behind = u32::from(!place.holds_head());
    Prepare {
        id: JobId(0),
        attempt: Attempt(0),
        job: Job {
            name: "profile".to_owned(),
            model_name: "profile".to_owned(),
            model: model.with_layers(before + layers + behind),
            arrival_s: 0.0,
            iterations: u32::MAX,
            micro_batches,
            shape: *shape,
            schedule: Schedule::default(),
            learning_rate: LEARNING_RATE,
            scale_model: None,
        },
        seed: 0,
        stage: StageIndex(before),
        stages: before + 1 + behind,
        layers: before..before + layers,
        program: Vec::new(),
        boundary_stands_for_bytes: None,
        previous: None,
        next: None,
        compute: ComputePlan {
            rung: ComputeRung::Native,
            forward_s: 0.0,
            backward_s: 0.0,
        },
        tells_actions: false,
    }
}
