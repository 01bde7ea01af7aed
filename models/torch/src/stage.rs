//! A pipeline stage: a contiguous run of a model's layers that goes forward, backward and steps.

use std::collections::BTreeMap;
use std::ops::Range;

use bace_models::ModelSpec;
use tch::{Kind, Tensor};

use crate::boundary::BoundaryShape;
use crate::device::Device;
use crate::digest::{Part, PartDigest};
use crate::error::Error;
use crate::optimizer::{AdamW, OptimizerSettings};
use crate::precision::Precision;
use crate::text::BatchShape;
use crate::transformer::{Embedding, Head, Layer, Place, Rotary};

/// What activations and gradients may come in, whatever the stage computes in.
const BOUNDARY_KINDS: [Kind; 2] = [Kind::Float, Kind::BFloat16];

/// What a stage is made from.
#[derive(Debug, Clone)]
pub struct StagePlan {
    /// The whole model.
    pub model: ModelSpec,
    /// The stage's layers, not empty. The stage with layer 0 also has the embedding, the one
    /// with the last layer also the head and the loss.
    pub layers: Range<u32>,
    /// Shape of every micro-batch.
    pub batch: BatchShape,
    /// Micro-batches of an iteration, at least 1.
    pub micro_batches: u32,
    /// Seed of the first weights.
    pub seed: u64,
    /// Knobs of AdamW.
    pub optimizer: OptimizerSettings,
    /// In which numbers it computes.
    pub precision: Precision,
}

/// What a stage takes in.
#[derive(Debug)]
pub enum StageInput {
    /// Token ids (sequences, tokens), for the stage with the embedding.
    Tokens(Tensor),
    /// The stage before's output (sequences, tokens, hidden), in fp32 or bf16.
    Activation(Tensor),
}

/// What a stage puts out.
#[derive(Debug)]
pub enum StageOutput {
    /// What the next stage takes in: (sequences, tokens, hidden), in the stage's precision.
    Activation(Tensor),
    /// The last stage's mean cross-entropy over the micro-batch's tokens, in nats.
    Loss(f64),
}

/// A contiguous run of a model's layers, with its optimizer and its micro-batches in flight.
///
/// Within an iteration every micro-batch goes forward once, in any order and any number of them
/// before the first goes backward; they go backward in the order 0, 1, 2, …, so that gradients are
/// summed in one order whatever the schedule. A micro-batch's activations are released by its
/// backward. The last stage divides each loss by the number of micro-batches before its backward, so
/// all gradients, at every stage, are those of the iteration's mean loss.
#[derive(Debug)]
pub struct Stage {
    plan: StagePlan,
    device: tch::Device,
    embedding: Option<Embedding>,
    layers: Vec<Layer>,
    head: Option<Head>,
    rotary: Rotary,
    optimizer: AdamW,
    in_flight: BTreeMap<u32, InFlight>,
    forwards: u32,
    backwards: u32,
}

/// What a micro-batch's forward leaves for its backward.
#[derive(Debug)]
struct InFlight {
    /// The detached input that collects the gradient for the stage before.
    input: Option<Tensor>,
    /// The activation, or the loss as a scalar.
    output: Tensor,
}

impl Stage {
    /// Builds a stage with its first weights.
    ///
    /// # Errors
    /// [`Error::Model`], [`Error::Vocabulary`], [`Error::Layers`], [`Error::EmptyBatch`],
    /// [`Error::NoMicroBatches`], [`Error::WithoutCuda`], [`Error::Cuda`], [`Error::NotInLibtorch`].
    pub fn new(plan: StagePlan, device: Device) -> Result<Self, Error> {
        check(&plan)?;
        let device = device.resolve()?;
        let (model, seed) = (&plan.model, plan.seed);
        let place = Place {
            device,
            precision: plan.precision,
        };
        let embedding = (plan.layers.start == 0).then(|| Embedding::new(model, seed, place));
        let layers: Vec<_> = plan
            .layers
            .clone()
            .map(|index| Layer::new(model, index, seed, place))
            .collect();
        let head = (plan.layers.end == model.layers).then(|| Head::new(model, seed, place));
        let (tokens, head_size) = (plan.batch.tokens, model.head_size);
        let rotary = Rotary::new(tokens.into(), head_size.into(), device);
        let parts = parts(&plan, embedding.as_ref(), &layers, head.as_ref());
        let weights = parts
            .iter()
            .flat_map(|(_, weights)| weights.iter().copied());
        let optimizer = AdamW::new(plan.optimizer, weights);
        Ok(Self {
            plan,
            device,
            embedding,
            layers,
            head,
            rotary,
            optimizer,
            in_flight: BTreeMap::new(),
            forwards: 0,
            backwards: 0,
        })
    }

    /// Takes a micro-batch forward. The last stage also needs its targets, token ids
    /// (sequences, tokens); no other stage takes any.
    ///
    /// # Errors
    /// [`Error::Order`] for a micro-batch that is not of this iteration or goes forward twice;
    /// [`Error::Argument`] and [`Error::Shape`] for tensors that this stage cannot use.
    pub fn forward(
        &mut self,
        micro_batch: u32,
        input: StageInput,
        targets: Option<&Tensor>,
    ) -> Result<StageOutput, Error> {
        self.check_forward(micro_batch, &input, targets)?;
        let (leaf, mut stream) = match (input, &self.embedding) {
            (StageInput::Tokens(tokens), Some(embedding)) => {
                (None, embedding.forward(&tokens.to_device(self.device)))
            }
            (StageInput::Activation(activation), _) => {
                let leaf = activation.to_device(self.device);
                let leaf = leaf.to_kind(self.plan.precision.kind()).detach();
                let leaf = leaf.set_requires_grad(true);
                (Some(leaf.shallow_clone()), leaf)
            }
            (StageInput::Tokens(_), None) => unreachable!("checked above"),
        };
        for layer in &self.layers {
            stream = layer.forward(&stream, &self.rotary);
        }
        let (kept, output) = match (&self.head, targets) {
            (Some(head), Some(targets)) => {
                let loss = head.loss(&stream, &targets.to_device(self.device));
                let value = loss.double_value(&[]);
                (loss, StageOutput::Loss(value))
            }
            _ => {
                let activation = stream.detach();
                (stream, StageOutput::Activation(activation))
            }
        };
        let state = InFlight {
            input: leaf,
            output: kept,
        };
        self.in_flight.insert(micro_batch, state);
        self.forwards += 1;
        Ok(output)
    }

    /// Takes a micro-batch backward with the gradient of its output (sequences, tokens, hidden),
    /// which the last stage does not take. Gives the gradient of its input, of the same shape,
    /// unless this is the first stage.
    ///
    /// # Errors
    /// [`Error::Order`] unless the micro-batch is the next one and went forward;
    /// [`Error::Argument`] and [`Error::Shape`] for a gradient that this stage cannot use.
    pub fn backward(
        &mut self,
        micro_batch: u32,
        gradient: Option<Tensor>,
    ) -> Result<Option<Tensor>, Error> {
        let gradient = self.check_backward(micro_batch, gradient)?;
        let state = self
            .in_flight
            .remove(&micro_batch)
            .expect("checked with the order");
        match gradient {
            // tch's backward takes no outer gradient; that of this sum is the gradient itself.
            Some(gradient) => (&state.output * gradient.to_device(self.device))
                .sum(Kind::Float)
                .backward(),
            None => (&state.output / f64::from(self.plan.micro_batches)).backward(),
        }
        self.backwards += 1;
        Ok(state.input.map(|input| input.grad()))
    }

    /// Takes the optimizer's step with the iteration's gradients and begins the next iteration.
    ///
    /// # Errors
    /// [`Error::EarlyStep`] before every micro-batch went backward.
    pub fn step(&mut self) -> Result<(), Error> {
        if self.backwards != self.plan.micro_batches {
            return Err(Error::EarlyStep {
                done: self.backwards,
                expected: self.plan.micro_batches,
            });
        }
        let parts = parts(
            &self.plan,
            self.embedding.as_ref(),
            &self.layers,
            self.head.as_ref(),
        );
        let weights = parts
            .iter()
            .flat_map(|(_, weights)| weights.iter().copied());
        self.optimizer.step(weights);
        self.layers.iter_mut().for_each(Layer::refresh);
        if let Some(head) = &mut self.head {
            head.refresh();
        }
        self.forwards = 0;
        self.backwards = 0;
        Ok(())
    }

    /// Drops what went forward and backward since the last step, as if it had not.
    pub fn forget(&mut self) {
        for (_, weights) in self.parts() {
            for weight in weights {
                let mut gradient = weight.grad();
                if gradient.defined() {
                    let _ = gradient.zero_();
                }
            }
        }
        self.in_flight.clear();
        self.forwards = 0;
        self.backwards = 0;
    }

    /// Micro-batches that went forward and not yet backward.
    pub fn in_flight(&self) -> u32 {
        self.forwards - self.backwards
    }

    /// Whether the stage takes tokens.
    pub fn is_first(&self) -> bool {
        self.embedding.is_some()
    }

    /// Whether the stage takes targets and puts out losses.
    pub fn is_last(&self) -> bool {
        self.head.is_some()
    }

    /// Shape of the activations and gradients at the stage's boundaries.
    pub fn boundary_shape(&self) -> BoundaryShape {
        BoundaryShape {
            sequences: self.plan.batch.sequences,
            tokens: self.plan.batch.tokens,
            hidden: self.plan.model.hidden,
        }
    }

    /// Weights of the stage, the norms' gains included.
    pub fn parameters(&self) -> u64 {
        self.parts()
            .iter()
            .flat_map(|(_, weights)| weights)
            .map(|weight| weight.numel() as u64)
            .sum()
    }

    /// A hash of each part's weights, in the model's order. Those of a pipeline's stages, one
    /// after the other, are comparable with those of the whole model in one stage.
    pub fn part_digests(&self) -> Vec<PartDigest> {
        self.parts()
            .into_iter()
            .map(|(part, weights)| PartDigest::of(part, &weights))
            .collect()
    }

    /// One hash over [`Stage::part_digests`].
    pub fn weights_digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for PartDigest { part, digest } in self.part_digests() {
            hasher.update(part.to_string().as_bytes()).update(&digest);
        }
        *hasher.finalize().as_bytes()
    }

    fn parts(&self) -> Vec<(Part, Vec<&Tensor>)> {
        parts(
            &self.plan,
            self.embedding.as_ref(),
            &self.layers,
            self.head.as_ref(),
        )
    }

    fn check_forward(
        &self,
        micro_batch: u32,
        input: &StageInput,
        targets: Option<&Tensor>,
    ) -> Result<(), Error> {
        const ACTION: &str = "forward";
        let order = |problem: String| Error::Order {
            action: ACTION,
            micro_batch,
            problem,
        };
        if micro_batch >= self.plan.micro_batches {
            return Err(order(format!(
                "an iteration has {} micro-batches",
                self.plan.micro_batches
            )));
        }
        if micro_batch < self.backwards || self.in_flight.contains_key(&micro_batch) {
            return Err(order("it went forward already".to_owned()));
        }
        let argument = |problem| Error::Argument {
            action: ACTION,
            micro_batch,
            problem,
        };
        match (input, self.is_first()) {
            (StageInput::Tokens(tokens), true) => self.check_ids(micro_batch, tokens)?,
            (StageInput::Activation(activation), false) => {
                self.check_boundary(ACTION, micro_batch, activation)?;
            }
            (StageInput::Tokens(_), false) => {
                return Err(argument("tokens belong to the first stage"));
            }
            (StageInput::Activation(_), true) => {
                return Err(argument("the first stage takes tokens"));
            }
        }
        match (targets, self.is_last()) {
            (Some(targets), true) => self.check_ids(micro_batch, targets),
            (None, false) => Ok(()),
            (Some(_), false) => Err(argument("targets belong to the last stage")),
            (None, true) => Err(argument("the last stage takes targets")),
        }
    }

    fn check_backward(
        &self,
        micro_batch: u32,
        gradient: Option<Tensor>,
    ) -> Result<Option<Tensor>, Error> {
        const ACTION: &str = "backward";
        let order = |problem: String| Error::Order {
            action: ACTION,
            micro_batch,
            problem,
        };
        if micro_batch != self.backwards {
            let next = self.backwards;
            return Err(order(format!("micro-batch {next} is the next one")));
        }
        if !self.in_flight.contains_key(&micro_batch) {
            return Err(order("it did not go forward".to_owned()));
        }
        let problem = match (&gradient, self.is_last()) {
            (Some(gradient), false) => {
                self.check_boundary(ACTION, micro_batch, gradient)?;
                return Ok(Some(gradient.shallow_clone()));
            }
            (None, true) => return Ok(None),
            (Some(_), true) => "the last stage takes no gradient",
            (None, false) => "only the last stage takes no gradient",
        };
        Err(Error::Argument {
            action: ACTION,
            micro_batch,
            problem,
        })
    }

    fn check_ids(&self, micro_batch: u32, ids: &Tensor) -> Result<(), Error> {
        let BatchShape { sequences, tokens } = self.plan.batch;
        if ids.size() == [sequences, tokens].map(i64::from) && ids.kind() == Kind::Int64 {
            return Ok(());
        }
        Err(Error::Shape {
            action: "forward",
            micro_batch,
            actual: ids.size(),
            expected: format!("[{sequences}, {tokens}] of 64-bit token ids"),
        })
    }

    fn check_boundary(
        &self,
        action: &'static str,
        micro_batch: u32,
        tensor: &Tensor,
    ) -> Result<(), Error> {
        let expected = self.boundary_shape().dimensions();
        if tensor.size() == expected && BOUNDARY_KINDS.contains(&tensor.kind()) {
            return Ok(());
        }
        Err(Error::Shape {
            action,
            micro_batch,
            actual: tensor.size(),
            expected: format!("{expected:?} of fp32 or bf16"),
        })
    }
}

fn check(plan: &StagePlan) -> Result<(), Error> {
    plan.model.validate()?;
    if plan.model.vocabulary < 256 {
        return Err(Error::Vocabulary(plan.model.vocabulary));
    }
    if plan.layers.is_empty() || plan.layers.end > plan.model.layers {
        return Err(Error::Layers {
            first: plan.layers.start,
            end: plan.layers.end,
            layers: plan.model.layers,
        });
    }
    if plan.micro_batches == 0 {
        return Err(Error::NoMicroBatches);
    }
    plan.batch.check()
}

/// The stage's weights by part, in the model's order.
fn parts<'a>(
    plan: &StagePlan,
    embedding: Option<&'a Embedding>,
    layers: &'a [Layer],
    head: Option<&'a Head>,
) -> Vec<(Part, Vec<&'a Tensor>)> {
    let embedding = embedding.map(|embedding| (Part::Embedding, embedding.weights()));
    let layers = plan
        .layers
        .clone()
        .zip(layers)
        .map(|(index, layer)| (Part::Layer(index), layer.weights()));
    let head = head.map(|head| (Part::Head, head.weights()));
    embedding.into_iter().chain(layers).chain(head).collect()
}

#[cfg(test)]
mod tests;
