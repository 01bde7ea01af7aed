//! A model learns from the text that comes with libtorch.

use bace_models::ModelSpec;
use bace_torch::{
    BatchShape, Corpus, Device, OptimizerSettings, Precision, Training, default_corpus_dir,
    train_alone, use_threads,
};

#[test]
fn the_loss_falls_on_the_default_text() {
    use_threads(1);
    let corpus = Corpus::load(&default_corpus_dir().unwrap()).unwrap();
    assert!(corpus.bytes() > 10_000_000, "{}", corpus.bytes());
    let training = Training {
        model: ModelSpec {
            layers: 2,
            hidden: 64,
            heads: 4,
            kv_heads: 2,
            head_size: 16,
            feed_forward: 192,
            gated: true,
            vocabulary: 256,
        },
        batch: BatchShape {
            sequences: 4,
            tokens: 64,
        },
        micro_batches: 2,
        iterations: 40,
        seed: 1,
        job: 1,
        optimizer: OptimizerSettings::default(),
        precision: Precision::Fp32,
    };
    let losses = train_alone(&training, &corpus, Device::Cpu).unwrap().losses;
    let (first, last) = (losses[0], losses[39]);
    // The logarithm of 256 is 5.5; letters' frequencies alone give about 3.3.
    assert!((5.0..6.5).contains(&first), "{losses:?}");
    assert!(last < 3.6, "{losses:?}");
}
