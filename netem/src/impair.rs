//! Draws of what a link does at random: a function of what is sent, never of when.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::{Delay, Jitter, LinkId};

/// The half of a normal distribution ends at so many standard deviations, so that what a link holds is bounded: one draw in
/// 16 000 would lie beyond.
pub const MOST_DEVIATIONS: u32 = 4;
/// The stream of draws that belong to a message as a whole; chunks have those of their numbers.
const WHOLE_MESSAGE: u64 = u64::MAX;
/// In place of a message's number, where datagrams are drawn and not messages.
const DATAGRAMS: u64 = u64::MAX;
/// A uniform draw is a multiple of this: 2^-53, all that an f64 below 1 resolves.
const UNIT: f64 = 1.0 / (1u64 << 53) as f64;
const NANOS_PER_SECOND: f64 = 1e9;

/// Names what one job sends over one directed link, in draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowKey {
    /// Of the run.
    pub seed: u64,
    /// The directed link; inside a region its fabric.
    pub link: LinkId,
    /// The job's index in its scenario.
    pub job: u32,
    /// Pipeline stage that sends.
    pub from_stage: u32,
    /// Pipeline stage that receives.
    pub to_stage: u32,
}

/// The draws of one chunk or message: the same on all platforms.
#[derive(Debug, Clone)]
pub struct Draws(ChaCha8Rng);

impl FlowKey {
    /// The draws of chunk `chunk` of the flow's message `message`, both counted from 0.
    pub fn chunk(&self, message: u64, chunk: u64) -> Draws {
        let mut seed = [0; 32];
        let [from, to] = [self.link.from, self.link.to].map(|region| region.index() as u16);
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..10].copy_from_slice(&from.to_le_bytes());
        seed[10..12].copy_from_slice(&to.to_le_bytes());
        seed[12..16].copy_from_slice(&self.job.to_le_bytes());
        seed[16..20].copy_from_slice(&self.from_stage.to_le_bytes());
        seed[20..24].copy_from_slice(&self.to_stage.to_le_bytes());
        seed[24..].copy_from_slice(&message.to_le_bytes());
        let mut generator = ChaCha8Rng::from_seed(seed);
        generator.set_stream(chunk);
        Draws(generator)
    }

    /// The draws of all of the flow's datagrams, one after the other, where the link takes datagrams; `attempt` is which start
    /// of the job it is.
    pub fn datagrams(&self, attempt: u64) -> Draws {
        self.chunk(DATAGRAMS, attempt)
    }

    /// The draws of the flow's message `message` as a whole.
    pub fn message(&self, message: u64) -> Draws {
        self.chunk(message, WHOLE_MESSAGE)
    }
}

impl Draws {
    /// Whether something of this `chance` happens.
    pub fn happens(&mut self, chance: f64) -> bool {
        self.uniform() < chance
    }

    /// Evenly from 0 to below 1.
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * UNIT
    }

    /// From the positive half of the standard normal distribution, below [`MOST_DEVIATIONS`].
    ///
    /// By rejection with nothing but comparisons and products (Karney, "Sampling exactly from the normal distribution",
    /// 2016): logarithms differ between platforms.
    pub fn half_normal(&mut self) -> f64 {
        loop {
            // With chance exp(-k/2) (1 - exp(-1/2)).
            let mut k = 0;
            while k < MOST_DEVIATIONS && self.survives(0.5) {
                k += 1;
            }
            if k == MOST_DEVIATIONS || !(0..k * k.saturating_sub(1)).all(|_| self.survives(0.5)) {
                continue;
            }
            let (whole, part) = (f64::from(k), self.uniform());
            let exponent = part * (2.0 * whole + part) / (2.0 * whole + 2.0);
            if (0..=k).all(|_| self.survives(exponent)) {
                return whole + part;
            }
        }
    }

    /// With chance exp(-`exponent`), which lies from 0 to 1: whether a falling run of uniform draws below it is of even length
    /// (von Neumann 1951).
    fn survives(&mut self, exponent: f64) -> bool {
        let (mut below, mut is_even) = (exponent, true);
        loop {
            let next = self.uniform();
            if next >= below {
                return is_even;
            }
            below = next;
            is_even = !is_even;
        }
    }
}

impl Jitter {
    /// One chunk's extra delay, ns.
    pub fn draw_ns(self, draws: &mut Draws) -> u64 {
        let (scale, drawn) = match self {
            Self::None => return 0,
            Self::Uniform(most) => (most, draws.uniform()),
            Self::Normal(deviation) => (deviation, draws.half_normal()),
        };
        (drawn * scale.seconds() * NANOS_PER_SECOND).round() as u64
    }

    /// The extra delay that no chunk exceeds.
    pub fn most(self) -> Delay {
        match self {
            Self::None => Delay::ZERO,
            Self::Uniform(most) => most,
            Self::Normal(deviation) => {
                let most_s = f64::from(MOST_DEVIATIONS) * deviation.seconds();
                Delay::from_seconds(most_s).unwrap_or(deviation)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::RegionId;

    fn key(seed: u64) -> FlowKey {
        FlowKey {
            seed,
            link: LinkId::new(RegionId::new(1), RegionId::new(2)),
            job: 3,
            from_stage: 4,
            to_stage: 5,
        }
    }

    fn delay(seconds: f64) -> Delay {
        Delay::from_seconds(seconds).unwrap()
    }

    /// Mean and standard deviation of a draw from each of many chunks.
    fn moments(draw: impl Fn(&mut Draws) -> f64) -> (f64, f64) {
        const CHUNKS: u64 = 40_000;
        let drawn: Vec<f64> = (0..CHUNKS)
            .map(|i| draw(&mut key(7).chunk(i / 100, i % 100)))
            .collect();
        let mean = drawn.iter().sum::<f64>() / CHUNKS as f64;
        let square = drawn.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>();
        (mean, (square / CHUNKS as f64).sqrt())
    }

    #[test]
    fn draws_are_the_same_for_ever() {
        let mut draws = key(1).chunk(2, 3);
        let first = [0; 3].map(|_| draws.0.next_u64());
        let expected = [
            5_731_393_245_908_063_934,
            6_338_454_946_331_408_818,
            1_578_350_081_370_453_876,
        ];
        assert_eq!(first, expected);
        let jitters = [Jitter::Uniform, Jitter::Normal].map(|kind| kind(delay(0.005)));
        let drawn = jitters.map(|jitter| jitter.draw_ns(&mut key(1).chunk(0, 0)));
        assert_eq!(drawn, [1_456_864, 788_225]);
    }

    #[test]
    fn every_part_of_a_key_has_draws_of_its_own() {
        let base = key(1);
        let other_link = LinkId::new(RegionId::new(2), RegionId::new(1));
        let mut drawn: Vec<u64> = [
            base.chunk(0, 0),
            base.chunk(0, 1),
            base.chunk(1, 0),
            base.message(0),
            key(2).chunk(0, 0),
            FlowKey { job: 4, ..base }.chunk(0, 0),
            FlowKey {
                from_stage: 5,
                to_stage: 4,
                ..base
            }
            .chunk(0, 0),
            FlowKey {
                link: other_link,
                ..base
            }
            .chunk(0, 0),
        ]
        .map(|mut draws| draws.0.next_u64())
        .into();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 8);
    }

    #[test]
    fn draws_have_their_distributions() {
        let (mean, deviation) = moments(Draws::uniform);
        assert!((mean - 0.5).abs() < 0.01 && (deviation - 12f64.sqrt().recip()).abs() < 0.01);
        let (mean, deviation) = moments(Draws::half_normal);
        let expected = (2.0 / std::f64::consts::PI).sqrt();
        assert!((mean - expected).abs() < 0.01, "{mean}");
        assert!(
            (deviation - (1.0 - expected * expected).sqrt()).abs() < 0.01,
            "{deviation}"
        );
        // Beyond one and two standard deviations of a normal distribution.
        for (from, share) in [(1.0, 0.3173), (2.0, 0.0455)] {
            let (beyond, _) = moments(|draws| f64::from(u8::from(draws.half_normal() > from)));
            assert!((beyond - share).abs() < 0.01, "{beyond}");
        }
        let (rate, _) = moments(|draws| f64::from(u8::from(draws.happens(0.1))));
        assert!((rate - 0.1).abs() < 0.01, "{rate}");
    }

    proptest! {
        #[test]
        fn jitter_stays_within_its_bound(seed: u64, chunk in 0u64..1_000, ms in 0.0f64..1_000.0) {
            let ms = delay(ms / 1e3);
            for jitter in [Jitter::None, Jitter::Uniform(ms), Jitter::Normal(ms)] {
                let drawn = jitter.draw_ns(&mut key(seed).chunk(0, chunk));
                prop_assert!(drawn <= jitter.most().nanos());
            }
        }
    }
}
