//! Each operation's values against plain Rust, on small tensors.

use super::*;
use half::{bf16, f16};

/// All indices of a tensor, the first dimension fastest.
fn indices(ne: Ne) -> impl Iterator<Item = [usize; 4]> {
    let [n0, n1, n2, n3] = ne.map(|n| n as usize);
    (0..n0 * n1 * n2 * n3).map(move |i| [i % n0, i / n0 % n1, i / (n0 * n1) % n2, i / (n0 * n1 * n2)])
}

/// The element of a contiguous tensor, whose dimensions repeat.
fn at(ne: Ne, values: &[f32], [i0, i1, i2, i3]: [usize; 4]) -> f32 {
    let [n0, n1, n2, n3] = ne.map(|n| n as usize);
    values[i0 % n0 + n0 * (i1 % n1 + n1 * (i2 % n2 + n2 * (i3 % n3)))]
}

#[test]
fn element_by_element() {
    let (na, nb) = (ne([4, 3, 2]), ne([4, 1, 2]));
    let (a, c) = (noise(1, 24), noise(2, 8));
    let expected =
        |f: fn(f32, f32) -> f32| -> Vec<f32> { indices(na).map(|i| f(at(na, &a, i), at(nb, &c, i))).collect() };
    let inputs = [(na, &a[..]), (nb, &c[..])];
    assert_close(&compute(&inputs, |b, x| b.add(x[0], x[1])).1, &expected(|a, b| a + b));
    assert_close(&compute(&inputs, |b, x| b.mul(x[0], x[1])).1, &expected(|a, b| a * b));
    assert_close(&compute(&inputs, |b, x| b.div(x[0], x[1])).1, &expected(|a, b| a / b));
    let inputs = [(na, &a[..])];
    let each = |f: &dyn Fn(f32) -> f32| a.iter().map(|x| f(*x)).collect::<Vec<f32>>();
    assert_close(&compute(&inputs, |b, x| b.scale_bias(x[0], 3.0, 0.5)).1, &each(&|x| 3.0 * x + 0.5));
    assert_close(&compute(&inputs, |b, x| b.at_least(x[0], 0.25)).1, &each(&|x| x.max(0.25)));
    assert_close(&compute(&inputs, |b, x| b.sigmoid(x[0])).1, &each(&|x| 1.0 / (1.0 + (-x).exp())));
    assert_close(&compute(&inputs, |b, x| b.fill(x[0], -2.5)).1, &each(&|_| -2.5));
}

#[test]
fn row_by_row() {
    let na = ne([5, 3, 2]);
    let a = noise(3, 30);
    let inputs = [(na, &a[..])];
    let rows = |f: &dyn Fn(&[f32]) -> Vec<f32>| a.chunks(5).flat_map(f).collect::<Vec<f32>>();
    let norm = |row: &[f32]| {
        let mean = row.iter().map(|x| x * x).sum::<f32>() / 5.0;
        row.iter().map(|x| x / (mean + 0.01).sqrt()).collect()
    };
    assert_close(&compute(&inputs, |b, x| b.rms_norm(x[0], 0.01)).1, &rows(&norm));
    let soft_max = |row: &[f32]| {
        let sum: f32 = row.iter().map(|x| x.exp()).sum();
        row.iter().map(|x| x.exp() / sum).collect()
    };
    assert_close(&compute(&inputs, |b, x| b.soft_max(x[0])).1, &rows(&soft_max));
    let (dims, sums) = compute(&inputs, |b, x| b.sum_rows(x[0]));
    assert_eq!(dims, ne([1, 3, 2]));
    assert_close(&sums, &rows(&|row| vec![row.iter().sum()]));
    // A norm and the product with a weight may be one operation.
    let w = noise(4, 5);
    let weighted = |row: &[f32]| norm(row).iter().zip(&w).map(|(x, w): (&f32, _)| x * w).collect();
    let inputs = [(na, &a[..]), (ne([5]), &w[..])];
    assert_close(&compute(&inputs, |b, x| b.mul(b.rms_norm(x[0], 0.01)?, x[1])).1, &rows(&weighted));
}

#[test]
fn a_masked_softmax_sees_only_what_it_may() {
    let (na, nm) = (ne([4, 2, 3]), ne([4, 2]));
    let a = noise(5, 24);
    let mask = [0.0, f32::NEG_INFINITY, 0.5, 0.0, 0.0, 0.0, f32::NEG_INFINITY, f32::NEG_INFINITY];
    let mut expected = Vec::new();
    for i in indices(ne([1, 2, 3])) {
        let scores: Vec<f32> =
            (0..4).map(|n| (0.5 * at(na, &a, [n, i[1], i[2], 0]) + at(nm, &mask, [n, i[1], 0, 0])).exp()).collect();
        expected.extend(scores.iter().map(|x| x / scores.iter().sum::<f32>()));
    }
    let (_, values) = compute(&[(na, &a), (nm, &mask)], |b, x| b.soft_max_masked(x[0], x[1], 0.5));
    assert_close(&values, &expected);
}

#[test]
fn products_of_matrices() {
    // The second matrix is repeated over two of the first.
    let (na, nb) = (ne([6, 3, 2]), ne([6, 4, 4]));
    let (a, c) = (noise(6, 36), noise(7, 96));
    let (dims, values) = compute(&[(na, &a), (nb, &c)], |b, x| b.mul_mat(x[0], x[1]));
    assert_eq!(dims, ne([3, 4, 4]));
    let dot = |i: [usize; 4]| (0..6).map(|k| at(na, &a, [k, i[0], i[2] / 2, 0]) * at(nb, &c, [k, i[1], i[2], 0])).sum();
    let expected: Vec<f32> = indices(dims).map(dot).collect();
    assert_close(&values, &expected);
}

#[test]
fn products_with_the_matrices_of_chosen_experts() {
    let (n_expert, n_used, n_tokens) = (5, 2, 3);
    let (ne_experts, nb) = (ne([4, 3, n_expert]), ne([4, n_used, n_tokens]));
    let (experts, x, scores) = (noise(8, 60), noise(9, 24), noise(10, 15));
    let inputs = [(ne_experts, &experts[..]), (nb, &x[..]), (ne([n_expert, n_tokens]), &scores[..])];
    let (dims, values) = compute(&inputs, |b, x| b.mul_mat_id(x[0], x[1], b.argsort_top_k(x[2], n_used)?));
    assert_eq!(dims, ne([3, n_used, n_tokens]));
    let best: Vec<usize> = scores.chunks(5).flat_map(|row| sorted(row).into_iter().take(2)).collect();
    let dot = |[row, used, token, _]: [usize; 4]| {
        let expert = best[2 * token + used];
        (0..4).map(|k| at(ne_experts, &experts, [k, row, expert, 0]) * at(nb, &x, [k, used, token, 0])).sum()
    };
    assert_close(&values, &indices(dims).map(dot).collect::<Vec<f32>>());
}

/// Where the values are, the largest first.
fn sorted(row: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
    order
}

/// The numbers that a sort gives, by way of a table of floats.
fn best(scores: &[f32], n: i64, k: i64) -> Vec<usize> {
    let n_rows = scores.len() as i64 / n;
    let table: Vec<f32> = (0..n_rows).flat_map(|_| (0..n).map(|n| n as f32)).collect();
    let inputs = [(ne([n, n_rows]), scores), (ne([1, n, n_rows]), &table[..])];
    let (dims, values) = compute(&inputs, |b, x| b.get_rows(x[1], b.argsort_top_k(x[0], k)?));
    assert_eq!(dims, ne([1, k, n_rows]));
    values.iter().map(|x| *x as usize).collect()
}

#[test]
fn the_best_come_first() {
    let scores = noise(11, 3 * 40);
    let expected: Vec<usize> = scores.chunks(40).flat_map(|row| sorted(row).into_iter().take(7)).collect();
    assert_eq!(best(&scores, 40, 7), expected);
    let ends = [0.0, f32::NEG_INFINITY, f32::INFINITY, -f32::MAX];
    assert_eq!(best(&ends, 4, 4)[..2], [2, 0]);
}

/// A sort whose comparison is no order may leave its row: numbers that are none must not get there.
#[test]
fn what_is_no_number_is_sorted_too() {
    for seed in 0..200 {
        let mut scores = noise(seed, 256);
        let n_bad = [1, 7, 100, 250][seed as usize % 4];
        let bad: Vec<usize> = (0..n_bad).map(|n| (n * 97 + seed as usize) % 256).collect();
        bad.iter().for_each(|n| scores[*n] = f32::NAN);
        let mut found = best(&scores, 256, 256);
        let good = scores.iter().filter(|x| !x.is_nan()).count();
        let expected: Vec<usize> = sorted(&scores).into_iter().filter(|n| !scores[*n].is_nan()).collect();
        assert_eq!(found[256 - good..], expected);
        found.sort_unstable();
        assert_eq!(found, (0..256).collect::<Vec<_>>());
    }
}

#[test]
fn pairs_are_turned_by_their_position() {
    let (n_rot, n_heads, n_tokens) = (6, 2, 3);
    // Two values a head are not turned.
    let na = ne([n_rot + 2, n_heads, n_tokens]);
    let a = noise(12, 48);
    let positions = [0i32, 5, 1000];
    let rope = Rope {
        n_dims: n_rot as i32,
        n_ctx_orig: 0,
        freq_base: 10_000.0,
        freq_scale: 0.5,
        ext_factor: 0.0,
        attn_factor: 1.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
    };
    let (graph, (x, p, output)) = graph(vec![], |b| {
        let (x, a) = b.input("x", TensorType::F32, na)?;
        let (p, positions) = b.input("p", TensorType::I32, ne([n_tokens]))?;
        Ok((x, p, b.output(b.rope(a, positions, &rope)?)?))
    })
    .unwrap();
    let mut cpu = Cpu::new(1, false).unwrap();
    cpu.load(graph).unwrap();
    cpu.write(x, &a).unwrap();
    cpu.write(p, &positions).unwrap();
    cpu.run().unwrap();
    let mut values = Vec::<f32>::new();
    cpu.read(output, &mut values).unwrap();
    let turned = |[i, head, token, _]: [usize; 4]| {
        let at = |i| f64::from(at(na, &a, [i, head, token, 0]));
        if i >= n_rot as usize {
            return at(i) as f32;
        }
        let angle = f64::from(positions[token]) * 0.5 * 10_000f64.powf(-((i / 2 * 2) as f64) / n_rot as f64);
        let (sin, cos) = angle.sin_cos();
        (if i % 2 == 0 { at(i) * cos - at(i + 1) * sin } else { at(i - 1) * sin + at(i) * cos }) as f32
    };
    let expected: Vec<f32> = indices(na).map(turned).collect();
    for (a, b) in values.iter().zip(expected) {
        assert!((a - b).abs() < 1e-4, "{a} is not {b}");
    }
}

#[test]
fn gates() {
    let (a, c) = (noise(13, 12), noise(14, 12));
    let swiglu = |gate: f32, up: f32| gate / (1.0 + (-gate).exp()) * up;
    let expected: Vec<f32> = a.iter().zip(&c).map(|(gate, up)| swiglu(*gate, *up)).collect();
    let na = ne([4, 3]);
    assert_close(&compute(&[(na, &a), (na, &c)], |b, x| b.swiglu(x[0], x[1])).1, &expected);
    // Row by row the gate, then what it is for.
    let (dims, values) = compute(&[(na, &a), (na, &c)], |b, x| b.swiglu_fused(b.concat_rows(x[0], x[1])?));
    assert_eq!(dims, na);
    assert_close(&values, &expected);
}

#[test]
fn attention_with_scores_and_without() {
    let (k_len, v_len, n_kv, n_tokens, n_heads) = (8, 4, 5, 3, 2);
    let nq = ne([k_len, n_tokens, n_heads]);
    let (q, k, v) = (noise(15, 48), noise(16, 40), noise(17, 20));
    let mask: Vec<f16> = indices(ne([n_kv, n_tokens]))
        .map(|[kv, token, ..]| if kv <= token + 2 { f16::ZERO } else { f16::NEG_INFINITY })
        .collect();
    let (graph, (ports, mask_port, flash, scores)) = graph(vec![], |b| {
        let (q, tq) = b.input("q", TensorType::F32, nq)?;
        let (k, tk) = b.input("k", TensorType::F32, ne([k_len, n_kv]))?;
        let (v, tv) = b.input("v", TensorType::F32, ne([v_len, n_kv]))?;
        let (m, tm) = b.input("m", TensorType::F16, ne([n_kv, n_tokens]))?;
        let flash = b.cont(b.permute(b.flash_attn(tq, tk, tv, tm, 0.3)?, [0, 2, 1, 3])?)?;
        let weights = b.soft_max_masked(b.mul_mat(tk, tq)?, tm, 0.3)?;
        let scores = b.mul_mat(b.cont(b.permute(tv, [1, 0, 2, 3])?)?, weights)?;
        Ok(([q, k, v], m, b.output(flash)?, b.output(scores)?))
    })
    .unwrap();
    let mut expected = Vec::new();
    for [_, token, head, _] in indices(ne([1, n_tokens, n_heads])) {
        let score = |kv: usize| {
            let dot: f32 = (0..8).map(|i| at(nq, &q, [i, token, head, 0]) * k[8 * kv + i]).sum();
            if kv <= token + 2 { (0.3 * dot).exp() } else { 0.0 }
        };
        let sum: f32 = (0..5).map(score).sum();
        expected.extend((0..4).map(|i| (0..5).map(|kv| score(kv) / sum * v[4 * kv + i]).sum::<f32>()));
    }
    let mut cpu = Cpu::new(2, false).unwrap();
    cpu.load(graph).unwrap();
    for (port, data) in ports.into_iter().zip([&q, &k, &v]) {
        cpu.write(port, data).unwrap();
    }
    cpu.write(mask_port, &mask).unwrap();
    cpu.run().unwrap();
    for output in [flash, scores] {
        let mut values = Vec::<f32>::new();
        cpu.read(output, &mut values).unwrap();
        assert_close(&values, &expected);
    }
}

#[test]
fn views_and_permutations() {
    let na = ne([4, 3, 2]);
    let a = noise(18, 24);
    let (dims, values) = compute(&[(na, &a)], |b, x| b.permute(x[0], [2, 0, 1, 3]));
    assert_eq!(dims, ne([3, 2, 4]), "dimension i becomes axes[i]");
    let expected: Vec<f32> = indices(dims).map(|[i1, i2, i0, _]| at(na, &a, [i0, i1, i2, 0])).collect();
    assert_eq!(values, expected);
    let (dims, values) = compute(&[(na, &a)], |b, x| b.view(x[0], ne([2, 3, 2]), [16, 48, 96], 4));
    let expected: Vec<f32> = indices(dims).map(|[i0, i1, i2, _]| at(na, &a, [i0 + 1, i1, i2, 0])).collect();
    assert_eq!(values, expected);
    let (dims, values) = compute(&[(na, &a)], |b, x| b.reshape(x[0], ne([6, 4])));
    assert_eq!((dims, values), (ne([6, 4]), a.clone()));
    // A view of a view counts from the first one.
    let (_, values) = compute(&[(na, &a)], |b, x| {
        let second = b.view(x[0], ne([4, 3]), [16, 48, 48], 48)?;
        b.view(second, ne([1, 3]), [16, 48, 48], 8)
    });
    assert_eq!(values, [a[14], a[18], a[22]]);
}

/// Values that every type holds exactly, whole blocks of Q8_0 and Q4_0 with a scale of 1 among them.
fn small_integers(n: usize) -> Vec<f32> {
    (0..n).map(|n| if n % 32 == 0 { -8.0 } else { (n * 7 % 15) as f32 - 7.0 }).collect()
}

#[test]
fn rows_of_every_kind_are_written_and_looked_up() {
    for (ty, exact) in [
        (TensorType::F32, true),
        (TensorType::F16, true),
        (TensorType::BF16, true),
        (TensorType::Q8_0, false),
        (TensorType::Q4_0, true),
    ] {
        let values = small_integers(3 * 64);
        for index in [TensorType::I32, TensorType::I64] {
            let mut store = Store::new(1, None).unwrap();
            let id = store.add("a", ty, &Shape::new(&[64, 5]).unwrap()).unwrap();
            let store = Arc::new(store);
            let (graph, (x, to, from, output, floats)) = graph(vec![store.clone()], |b| {
                let (x, new) = b.input("x", TensorType::F32, ne([64, 3]))?;
                let (to, rows) = b.input("to", index, ne([3]))?;
                let (from, chosen) = b.input("from", TensorType::I32, ne([2]))?;
                let a = b.set_rows(b.stored(0, id), new, rows)?;
                Ok((x, to, from, b.output(b.get_rows(a, chosen)?)?, b.output(b.to_f32(a)?)?))
            })
            .unwrap();
            let mut cpu = Cpu::new(1, false).unwrap();
            cpu.load(graph).unwrap();
            cpu.write(x, &values).unwrap();
            match index {
                TensorType::I32 => cpu.write(to, &[4i32, 0, 2]).unwrap(),
                _ => cpu.write(to, &[4i64, 0, 2]).unwrap(),
            }
            cpu.write(from, &[2i32, 4]).unwrap();
            cpu.run().unwrap();
            let (mut found, mut all, mut raw) =
                (Vec::<f32>::new(), Vec::<f32>::new(), vec![0; store.get(id).n_bytes()]);
            cpu.read(output, &mut found).unwrap();
            cpu.read(floats, &mut all).unwrap();
            store.read(id, 0, &mut raw).unwrap();
            let mut decoded = vec![0.0; 64 * 5];
            dequantize(ty, &raw, &mut decoded).unwrap();
            assert_eq!(all, decoded, "{ty}");
            assert_eq!(found, [&decoded[128..192], &decoded[256..]].concat(), "{ty}");
            let expected: Vec<f32> = [&values[128..], &values[..64]].concat();
            if exact {
                assert_eq!(found, expected, "{ty}");
            } else {
                assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 0.04), "{ty}");
            }
            let untouched: Vec<f32> = [&decoded[64..128], &decoded[192..256]].concat();
            assert!(untouched.iter().all(|x| *x == 0.0), "{ty}");
        }
    }
}

/// Each type's rows can be looked up, copied and multiplied by, or are refused; nothing ends the process.
#[test]
fn every_type_is_computed_with_or_refused() {
    let mut n_computed = 0;
    for ty in TensorType::ALL.iter().copied() {
        let shape = Shape::new(&[2 * ty.block_len(), 3]).unwrap();
        let n = 2 * ty.block_len() as i64;
        let mut store = Store::new(1, None).unwrap();
        let id = store.add("a", ty, &shape).unwrap();
        let (graph, (ids, x, outputs)) = graph(vec![Arc::new(store)], |b| {
            let a = b.stored(0, id);
            let (ids, chosen) = b.input("ids", TensorType::I32, ne([3]))?;
            let (x, vector) = b.input("x", TensorType::F32, ne([n, 3]))?;
            let ops = [
                b.get_rows(a, chosen),
                b.to_f32(a),
                b.mul_mat(a, vector),
                b.set_rows(a, vector, chosen).and_then(|a| b.to_f32(a)),
                b.cont(b.view(a, ne([n, 2]), [a.nb()[1], a.nb()[3], a.nb()[3]], a.nb()[1])?),
                b.flash_attn(vector, a, a, b.input("m", TensorType::F16, ne([3, 3]))?.1, 1.0),
            ];
            let floats = ops.into_iter().flatten().filter(|a| a.ty() == Some(TensorType::F32));
            let outputs = floats.map(|a| b.output(a)).collect::<Result<Vec<_>, _>>()?;
            Ok((ids, x, outputs))
        })
        .unwrap();
        let mut cpu = Cpu::new(1, false).unwrap();
        cpu.load(graph).unwrap();
        cpu.write(ids, &[2i32, 0, 1]).unwrap();
        cpu.write(x, &noise(1, 3 * n as usize)).unwrap();
        // The mask is the third input; it is there if anything looks at it.
        let _ = cpu.write(Input::nth(2), &[f16::ZERO; 9]);
        cpu.run().unwrap();
        n_computed += outputs.len();
        for output in outputs {
            let mut values = Vec::<f32>::new();
            cpu.read(output, &mut values).unwrap();
        }
    }
    assert!(n_computed > 80, "{n_computed}");
}

#[test]
fn halves_are_multiplied_as_they_are() {
    let a = small_integers(64);
    let x = noise(19, 64);
    for (ty, data) in [
        (TensorType::F16, a.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect::<Vec<u8>>()),
        (TensorType::BF16, a.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect()),
    ] {
        let (store, id) = store_of(ty, &[64], &data);
        let (graph, (port, output)) = graph(vec![store], |b| {
            let (port, x) = b.input("x", TensorType::F32, ne([64]))?;
            Ok((port, b.output(b.mul_mat(b.stored(0, id), x)?)?))
        })
        .unwrap();
        let mut cpu = Cpu::new(1, true).unwrap();
        cpu.load(graph).unwrap();
        cpu.write(port, &x).unwrap();
        cpu.run().unwrap();
        let mut values = Vec::<f32>::new();
        cpu.read(output, &mut values).unwrap();
        let expected: f32 = a.iter().zip(&x).map(|(a, b)| a * b).sum();
        assert!((values[0] - expected).abs() < 0.2, "{ty}: {} is not {expected}", values[0]);
    }
}
