// Reads a trace with Perfetto's own trace processor, as ui.perfetto.dev does, and asks it in SQL.
//
// `engine` and `trace` are URLs: of Perfetto's engine_bundle.js, beside which its trace_processor.wasm lies, and of a trace.
// Resolves to the rows of each query, a row being an object of its columns; rejects with what Perfetto complains of.
// What is sent and what comes back are messages of perfetto's protos/perfetto/trace_processor/trace_processor.proto.
async (engine, trace, queries) => {
    const METHOD = { append: 1, finalize: 2, query: 3 };
    const CELL = { NULL: 1, INTEGER: 2, FLOAT: 3, TEXT: 4 };
    const CHUNK_BYTES = 16 * 1024 * 1024;

    // Writing: fields of numbers and of bytes.
    const varint = value => {
        const bytes = [];
        for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
        return [...bytes, value];
    };
    const joined = parts => {
        const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
        let at = 0;
        for (const part of parts) {
            all.set(part, at);
            at += part.length;
        }
        return all;
    };
    const number = (field, value) => joined([varint(field * 8), varint(value)]);
    const bytes = (field, value) => joined([varint(field * 8 + 2), varint(value.length), value]);

    // Reading: [field, value], where a value is a BigInt or bytes.
    const varints = function* (from) {
        for (let at = 0, value = 0n, shift = 0n; at < from.length; at += 1) {
            value |= BigInt(from[at] & 127) << shift;
            shift += 7n;
            if (from[at] < 128) {
                yield [value, at + 1];
                value = shift = 0n;
            }
        }
    };
    const first = from => varints(from).next().value;
    const fields = function* (from) {
        while (from.length > 0) {
            const [tag, behindTag] = first(from);
            from = from.subarray(behindTag);
            const field = Number(tag >> 3n);
            let length;
            switch (tag & 7n) {
                case 0n: {
                    const [value, behind] = first(from);
                    yield [field, value];
                    length = behind;
                    break;
                }
                case 2n: {
                    const [size, begin] = first(from);
                    length = begin + Number(size);
                    yield [field, from.subarray(begin, length)];
                    break;
                }
                default:
                    throw new Error(`a field of wire type ${tag & 7n}`);
            }
            from = from.subarray(length);
        }
    };
    const text = from => new TextDecoder().decode(from);

    const worker = new Worker(engine);
    const failed = new Promise((_, reject) => (worker.onerror = error => reject(new Error(error.message))));
    const { port1: port, port2 } = new MessageChannel();
    worker.postMessage(port2, [port2]);

    // One request at a time; `isWhole` says whether the answers so far are all.
    let sequence = 0;
    const ask = (method, parts, isWhole) => {
        const message = joined([number(1, sequence++), number(2, method), ...parts]);
        const answers = [];
        const answered = new Promise((resolve, reject) => {
            port.onmessage = event => {
                for (const [, answer] of fields(event.data)) {
                    for (const [field, value] of fields(answer)) {
                        if (field === 5) reject(new Error(text(value)));
                        answers.push([field, value]);
                    }
                }
                if (isWhole(answers)) resolve(answers);
            };
        });
        port.postMessage(bytes(1, message));
        return Promise.race([answered, failed]);
    };
    const says = field => answers => answers.some(answer => answer[0] === field);

    const batchOf = from => {
        const cells = { types: [], integers: [], floats: [], texts: [], isLast: false };
        for (const [field, value] of fields(from)) {
            if (field === 1) cells.types = [...varints(value)].map(([type]) => Number(type));
            if (field === 2) cells.integers = [...varints(value)].map(([of]) => Number(BigInt.asIntN(64, of)));
            if (field === 3) cells.floats = [...new Float64Array(value.slice().buffer)];
            if (field === 5) cells.texts = text(value).split('\0');
            if (field === 6) cells.isLast = value === 1n;
        }
        return cells;
    };
    const resultOf = answers => {
        const result = { columns: [], cells: [], isLast: false, error: '' };
        for (const [, from] of answers.filter(answer => answer[0] === 203)) {
            for (const [field, value] of fields(from)) {
                if (field === 1) result.columns.push(text(value));
                if (field === 2) result.error = text(value);
                if (field !== 3) continue;
                const batch = batchOf(value);
                result.isLast = batch.isLast;
                const next = { [CELL.NULL]: () => null, [CELL.INTEGER]: () => batch.integers.shift(), [CELL.FLOAT]: () => batch.floats.shift(), [CELL.TEXT]: () => batch.texts.shift() };
                result.cells.push(...batch.types.map(type => next[type]()));
            }
        }
        return result;
    };

    const file = new Uint8Array(await (await fetch(trace)).arrayBuffer());
    for (let at = 0; at < file.length; at += CHUNK_BYTES) {
        const answers = await ask(METHOD.append, [bytes(101, file.subarray(at, at + CHUNK_BYTES))], says(201));
        for (const [, appended] of answers.filter(answer => answer[0] === 201)) {
            for (const [field, value] of fields(appended)) if (field === 2) throw new Error(text(value));
        }
    }
    await ask(METHOD.finalize, [], says(3));
    const rows = [];
    for (const query of queries) {
        const sql = bytes(1, new TextEncoder().encode(query));
        const isWhole = answers => resultOf(answers).isLast || resultOf(answers).error !== '';
        const { columns, cells, error } = resultOf(await ask(METHOD.query, [bytes(103, sql)], isWhole));
        if (error) throw new Error(`${query}: ${error}`);
        const count = columns.length === 0 ? 0 : cells.length / columns.length;
        rows.push(Array.from({ length: count }, (_, row) =>
            Object.fromEntries(columns.map((column, place) => [column, cells[row * columns.length + place]]))));
    }
    worker.terminate();
    return rows;
}
