use super::*;

fn plan(layers: Range<u32>, micro_batches: u32) -> StagePlan {
    StagePlan {
        model: ModelSpec {
            layers: 3,
            hidden: 8,
            heads: 2,
            kv_heads: 1,
            head_size: 4,
            feed_forward: 12,
            gated: true,
            vocabulary: 256,
        },
        layers,
        batch: BatchShape {
            sequences: 2,
            tokens: 4,
        },
        micro_batches,
        seed: 1,
        optimizer: OptimizerSettings::default(),
        precision: Precision::Fp32,
    }
}

fn stage(layers: Range<u32>, micro_batches: u32) -> Stage {
    Stage::new(plan(layers, micro_batches), Device::Cpu).unwrap()
}

fn ids(first: i64) -> Tensor {
    let ids: Vec<i64> = (first..first + 8).collect();
    Tensor::from_slice(&ids).view([2, 4])
}

fn tensor(tokens: i64) -> Tensor {
    Tensor::ones([2, tokens, 8], (Kind::Float, tch::Device::Cpu))
}

#[test]
fn two_like_micro_batches_step_as_one() {
    let digests = [1, 2].map(|micro_batches| {
        let mut stage = stage(0..3, micro_batches);
        for micro_batch in 0..micro_batches {
            let input = StageInput::Tokens(ids(0));
            stage.forward(micro_batch, input, Some(&ids(1))).unwrap();
            stage.backward(micro_batch, None).unwrap();
        }
        let before = stage.weights_digest();
        stage.step().unwrap();
        assert_ne!(stage.weights_digest(), before);
        stage.weights_digest()
    });
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn what_is_forgotten_leaves_no_trace() {
    let digests = [false, true].map(|rehearses| {
        let mut stage = stage(0..3, 1);
        if rehearses {
            let input = StageInput::Tokens(ids(3));
            stage.forward(0, input, Some(&ids(7))).unwrap();
            stage.backward(0, None).unwrap();
            stage.forget();
        }
        let input = StageInput::Tokens(ids(0));
        stage.forward(0, input, Some(&ids(1))).unwrap();
        stage.backward(0, None).unwrap();
        stage.step().unwrap();
        stage.weights_digest()
    });
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn digests_of_a_split_are_those_of_the_whole() {
    let whole = stage(0..3, 1).part_digests();
    let split = [stage(0..1, 1).part_digests(), stage(1..3, 1).part_digests()].concat();
    assert_eq!(whole, split);
    let names: Vec<_> = whole.iter().map(|digest| digest.part.to_string()).collect();
    assert_eq!(
        names,
        ["embedding", "layer 0", "layer 1", "layer 2", "head"]
    );
    assert_eq!(stage(0..3, 1).parameters(), {
        let layer = 8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 12;
        3 * layer + 2 * 8 * 256 + 7 * 8
    });
}

#[test]
fn plans_that_make_no_stage_are_refused() {
    let refuse = |change: &dyn Fn(&mut StagePlan)| {
        let mut plan = plan(0..3, 1);
        change(&mut plan);
        Stage::new(plan, Device::Cpu).unwrap_err().to_string()
    };
    let messages = [
        refuse(&|plan| plan.model.hidden = 0),
        refuse(&|plan| plan.model.vocabulary = 255),
        refuse(&|plan| plan.layers = 2..4),
        refuse(&|plan| plan.layers = 1..1),
        refuse(&|plan| plan.micro_batches = 0),
        refuse(&|plan| plan.batch.tokens = 0),
    ];
    assert_eq!(
        messages.join("\n"),
        "build the model: `hidden` is 0; it has to be at least 1\n\
         feed text to the model: `vocabulary` = 255, but byte tokens need at least 256\n\
         build the stage: layers 2..4 are no part of a model of 3 layers\n\
         build the stage: layers 1..1 are no part of a model of 3 layers\n\
         build the stage: `micro_batches` is 0; it has to be at least 1\n\
         cut batches of 2 sequences of 0 tokens: both have to be at least 1"
    );
}

#[test]
fn what_breaks_the_order_or_the_shape_is_refused_and_changes_nothing() {
    let mut middle = stage(1..2, 2);
    let (mut first, mut last) = (stage(0..1, 1), stage(2..3, 1));
    let right = || StageInput::Activation(tensor(4));
    middle.forward(1, right(), None).unwrap();
    let mut messages = vec![
        middle.forward(2, right(), None).map(drop),
        middle.forward(1, right(), None).map(drop),
        middle
            .forward(0, StageInput::Tokens(ids(0)), None)
            .map(drop),
        middle.forward(0, right(), Some(&ids(0))).map(drop),
        middle
            .forward(0, StageInput::Activation(tensor(3)), None)
            .map(drop),
        middle.backward(0, Some(tensor(4))).map(drop),
        middle.backward(1, Some(tensor(4))).map(drop),
        first.forward(0, right(), None).map(drop),
        first
            .forward(0, StageInput::Tokens(tensor(4)), None)
            .map(drop),
        last.forward(0, right(), None).map(drop),
        middle.step(),
    ];
    middle.forward(0, right(), None).unwrap();
    last.forward(0, right(), Some(&ids(0))).unwrap();
    messages.push(middle.backward(0, None).map(drop));
    messages.push(middle.backward(0, Some(tensor(5))).map(drop));
    messages.push(last.backward(0, Some(tensor(4))).map(drop));
    let messages: Vec<_> = messages
        .into_iter()
        .map(|result| result.unwrap_err().to_string())
        .collect();
    assert_eq!(
        messages.join("\n"),
        "forward micro-batch 2: an iteration has 2 micro-batches\n\
         forward micro-batch 1: it went forward already\n\
         forward micro-batch 0: tokens belong to the first stage\n\
         forward micro-batch 0: targets belong to the last stage\n\
         forward micro-batch 0: shape [2, 3, 8], expected [2, 4, 8] of fp32 or bf16\n\
         backward micro-batch 0: it did not go forward\n\
         backward micro-batch 1: micro-batch 0 is the next one\n\
         forward micro-batch 0: the first stage takes tokens\n\
         forward micro-batch 0: shape [2, 4, 8], expected [2, 4] of 64-bit token ids\n\
         forward micro-batch 0: the last stage takes targets\n\
         step: 0 of 2 micro-batches went backward\n\
         backward micro-batch 0: only the last stage takes no gradient\n\
         backward micro-batch 0: shape [2, 5, 8], expected [2, 4, 8] of fp32 or bf16\n\
         backward micro-batch 0: the last stage takes no gradient"
    );
    for micro_batch in 0..2 {
        middle.backward(micro_batch, Some(tensor(4))).unwrap();
    }
    assert_eq!(middle.in_flight(), 0);
    middle.step().unwrap();
}
