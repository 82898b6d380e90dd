//! Graphs, stores and the CPU: what goes in, what comes out, and when not.

use super::*;
use crate::gguf::{Gguf, Split, Writer};
use std::sync::atomic::Ordering;

/// x + y, of three values each.
fn sum() -> (Graph, (Input, Input, Output)) {
    graph(vec![], |b| {
        let (x, a) = b.input("x", TensorType::F32, ne([3]))?;
        let (y, c) = b.input("y", TensorType::F32, ne([3]))?;
        Ok((x, y, b.output(b.add(a, c)?)?))
    })
    .unwrap()
}

#[test]
fn inputs_are_written_before_each_computation() {
    let (graph, (x, y, output)) = sum();
    let mut cpu = Cpu::new(1, false).unwrap();
    let mut values = Vec::<f32>::new();
    assert_eq!(cpu.run(), Err(ComputeError::NoGraph));
    assert_eq!(cpu.write(x, &[0f32; 3]), Err(ComputeError::NoGraph));
    assert_eq!(cpu.read(output, &mut values), Err(ComputeError::NoGraph));
    cpu.load(graph).unwrap();
    assert_eq!(cpu.run(), Err(ComputeError::NotWritten));
    cpu.write(x, &[1f32, 2.0, 3.0]).unwrap();
    assert_eq!(cpu.run(), Err(ComputeError::NotWritten));
    cpu.write(y, &[10f32, 20.0, 30.0]).unwrap();
    assert_eq!(cpu.read(output, &mut values), Err(ComputeError::NotComputed));
    cpu.run().unwrap();
    for _ in 0..2 {
        cpu.read(output, &mut values).unwrap();
    }
    assert_eq!(values, [11.0, 22.0, 33.0, 11.0, 22.0, 33.0]);
    assert_eq!(cpu.run(), Err(ComputeError::NotWritten), "their memory may hold other results by now");
    cpu.write(x, &[0f32; 3]).unwrap();
    assert_eq!(cpu.read(output, &mut values), Err(ComputeError::NotComputed));
    cpu.unload();
    assert_eq!(cpu.run(), Err(ComputeError::NoGraph));
}

#[test]
fn lengths_and_types_are_held_to() {
    let (graph, (x, _, output)) = sum();
    let mut cpu = Cpu::new(1, false).unwrap();
    cpu.load(graph).unwrap();
    for n in [0, 2, 4] {
        let error = ComputeError::Length { what: "input", expected: 12, got: 4 * n };
        assert_eq!(cpu.write(x, &vec![0f32; n]), Err(error));
    }
    let error = ComputeError::Type { expected: TensorType::F32, found: TensorType::I32 };
    assert_eq!(cpu.write(x, &[0i32; 3]), Err(error.clone()));
    assert_eq!(cpu.read(output, &mut Vec::<i32>::new()), Err(error));
}

#[test]
fn rows_are_within_what_they_choose_from() {
    let (store, id) = store_of(TensorType::F32, &[2, 3], &bytes(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
    let (graph, (ids, output)) = graph(vec![store], |b| {
        let (ids, chosen) = b.input("ids", TensorType::I32, ne([2]))?;
        Ok((ids, b.output(b.get_rows(b.stored(0, id), chosen)?)?))
    })
    .unwrap();
    let mut cpu = Cpu::new(1, false).unwrap();
    cpu.load(graph).unwrap();
    for row in [-1, 3, i32::MIN, i32::MAX] {
        assert_eq!(cpu.write(ids, &[0, row]), Err(ComputeError::Row { row: row.into(), n_rows: 3 }));
    }
    assert_eq!(cpu.run(), Err(ComputeError::NotWritten));
    cpu.write(ids, &[2i32, 0]).unwrap();
    cpu.run().unwrap();
    let mut values = Vec::<f32>::new();
    cpu.read(output, &mut values).unwrap();
    assert_eq!(values, [4.0, 5.0, 0.0, 1.0]);
}

#[test]
fn an_input_that_nothing_needs_may_be_left_out() {
    let (graph, (x, unused, output)) = graph(vec![], |b| {
        let (x, a) = b.input("x", TensorType::F32, ne([2]))?;
        let (unused, _) = b.input("unused", TensorType::I32, ne([4]))?;
        Ok((x, unused, b.output(b.scale_bias(a, 2.0, 1.0)?)?))
    })
    .unwrap();
    let mut cpu = Cpu::new(1, false).unwrap();
    cpu.load(graph).unwrap();
    for write_it in [false, true, false] {
        cpu.write(x, &[1f32, -1.0]).unwrap();
        if write_it {
            cpu.write(unused, &[7i32; 4]).unwrap();
        }
        cpu.run().unwrap();
        let mut values = Vec::<f32>::new();
        cpu.read(output, &mut values).unwrap();
        assert_eq!(values, [3.0, -1.0]);
    }
}

#[test]
fn a_stop_flag_ends_a_computation() {
    for n_threads in [1, 2] {
        let (graph, (x, y, output)) = sum();
        let mut cpu = Cpu::new(n_threads, false).unwrap();
        cpu.load(graph).unwrap();
        let mut run = |stop: bool| {
            cpu.stop_flag().store(stop, Ordering::Relaxed);
            cpu.write(x, &[1f32; 3]).unwrap();
            cpu.write(y, &[1f32; 3]).unwrap();
            (cpu.run(), cpu.read(output, &mut Vec::<f32>::new()))
        };
        assert_eq!(run(true), (Err(ComputeError::Stopped), Err(ComputeError::NotComputed)));
        assert_eq!(run(false), (Ok(()), Ok(())));
    }
}

/// A chain of sums whose last is kept; with `keep` each of them is.
fn chain(keep: bool) -> (Graph, (Input, Vec<Output>)) {
    graph(vec![], |b| {
        let (x, mut a) = b.input("x", TensorType::F32, ne([4]))?;
        let mut outputs = Vec::new();
        for n in 0..8 {
            a = b.scale_bias(a, 1.0, 1.0)?;
            if keep || n == 7 {
                outputs.push(b.output(a)?);
            }
        }
        Ok((x, outputs))
    })
    .unwrap()
}

/// Two graphs alike in all but what they keep: the second must not get the places of the first, whose
/// results share memory.
#[test]
fn each_graph_gets_a_plan_of_its_own() {
    let mut cpu = Cpu::new(1, false).unwrap();
    for keep in [false, true, false, true] {
        let (graph, (x, outputs)) = chain(keep);
        cpu.load(graph).unwrap();
        cpu.write(x, &[0f32; 4]).unwrap();
        cpu.run().unwrap();
        let first = if keep { 1 } else { 8 };
        for (output, expected) in outputs.iter().zip(first..) {
            let mut values = Vec::<f32>::new();
            cpu.read(*output, &mut values).unwrap();
            assert_eq!(values, [expected as f32; 4], "{keep}");
        }
    }
}

/// More nodes than a stack has room for calls.
#[test]
fn a_graph_may_be_long() {
    let n = 200_000;
    let (graph, (x, output)) = Graph::build(n + 1, vec![], |b| {
        let (x, mut a) = b.input("x", TensorType::F32, ne([1]))?;
        for _ in 0..n {
            a = b.scale_bias(a, 1.0, 1.0)?;
        }
        Ok::<_, Error>((x, b.output(a)?))
    })
    .unwrap();
    assert_eq!(graph.n_nodes(), n);
    let mut cpu = Cpu::new(1, false).unwrap();
    cpu.load(graph).unwrap();
    cpu.write(x, &[0f32]).unwrap();
    cpu.run().unwrap();
    let mut values = Vec::<f32>::new();
    cpu.read(output, &mut values).unwrap();
    assert_eq!(values, [n as f32]);
}

#[test]
fn a_full_graph_takes_no_more() {
    for max in 0..6 {
        let (graph, n) = Graph::build(max, vec![], |b| {
            let mut n = 0;
            let full = |error: OpError| assert_eq!(error.problem.rsplit(": ").next(), Some("the graph is full"));
            match b.input("x", TensorType::F32, ne([4])) {
                Err(error) => full(error),
                Ok((_, mut a)) => loop {
                    n += 1;
                    match b.scale_bias(a, 1.0, 0.0) {
                        Ok(node) => a = node,
                        Err(error) => break full(error),
                    }
                },
            }
            Ok::<_, Error>(n)
        })
        .unwrap();
        assert_eq!((n, graph.n_nodes()), (max, max.saturating_sub(1)));
    }
    // A sort is three nodes.
    for max in 0..=4 {
        let built = Graph::build(max, vec![], |b| {
            let (_, a) = b.input("x", TensorType::F32, ne([4]))?;
            b.argsort_top_k(a, 2).map(drop).map_err(Error::from)
        });
        assert_eq!(built.is_ok(), max == 4);
    }
}

#[test]
fn an_empty_graph_computes_nothing() {
    let mut cpu = Cpu::new(1, false).unwrap();
    cpu.load(graph(vec![], |_| Ok(())).unwrap().0).unwrap();
    cpu.run().unwrap();
}

#[test]
fn what_no_machine_has_is_out_of_memory() {
    assert!(matches!(
        Graph::build(usize::MAX / 2, vec![], |_| Ok::<_, Error>(())),
        Err(Error::OutOfMemory(OutOfMemory { .. }))
    ));
    let mut cpu = Cpu::new(1, false).unwrap();
    // 128 TiB, twice: the second must not find the first's place.
    for _ in 0..2 {
        let (graph, _) = graph(vec![], |b| {
            let (_, a) = b.input("x", TensorType::F32, ne([1 << 22, 1 << 22]))?;
            b.output(b.scale_bias(a, 1.0, 1.0)?)
        })
        .unwrap();
        let Err(ComputeError::OutOfMemory(OutOfMemory { bytes })) = cpu.load(graph) else { panic!() };
        assert!(bytes >= 1 << 46, "{bytes}");
    }
    // And a graph that fits is computed as ever.
    let (graph, (x, outputs)) = chain(false);
    cpu.load(graph).unwrap();
    cpu.write(x, &[0f32; 4]).unwrap();
    cpu.run().unwrap();
    cpu.read(outputs[0], &mut Vec::<f32>::new()).unwrap();

    let mut store = Store::new(1, None).unwrap();
    let error = store.add("a", TensorType::F32, &Shape::new(&[1 << 50]).unwrap());
    assert_eq!(error, Err(StoreError::OutOfMemory(OutOfMemory { bytes: 1 << 52 })));
}

#[test]
fn outputs_have_data_of_their_own() {
    let (store, id) = store_of(TensorType::F32, &[2], &bytes(&[1.0, 2.0]));
    graph(vec![store], |b| {
        let (_, a) = b.input("x", TensorType::F32, ne([2, 3]))?;
        let view = b.reshape(b.scale_bias(a, 1.0, 0.0)?, ne([6]))?;
        for tensor in [a, view, b.permute(a, [1, 0, 2, 3])?, b.stored(0, id)] {
            let error = b.output(tensor).unwrap_err();
            assert!(error.problem.ends_with("is no result with data of its own"), "{error}");
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_store_keeps_to_its_tensors() {
    let mut store = Store::new(1, None).unwrap();
    let id = store.add("a", TensorType::Q8_0, &Shape::new(&[32, 2]).unwrap()).unwrap();
    assert_eq!((store.len(), store.n_owned_bytes()), (1, 68));
    let mut out = [1; 68];
    store.read(id, 0, &mut out).unwrap();
    assert_eq!(out, [0; 68], "new memory holds zeros");
    store.write(id, 60, &[7; 8]).unwrap();
    store.read(id, 34, &mut out[..34]).unwrap();
    assert_eq!(out[26..34], [7; 8]);
    store.zero(id, 66..68).unwrap();
    store.read(id, 60, &mut out[..8]).unwrap();
    assert_eq!(out[..8], [7, 7, 7, 7, 7, 7, 0, 0]);

    let range = |offset, bytes| Err(StoreError::Range { offset, bytes, len: 68 });
    assert_eq!(store.write(id, 61, &[0; 8]), range(61, 8));
    assert_eq!(store.write(id, usize::MAX, &[0; 8]), range(usize::MAX, 8));
    assert_eq!(store.read(id, 69, &mut []), range(69, 0));
    assert_eq!(store.zero(id, 60..69), range(60, 9));
    store.write(id, 68, &[]).unwrap();

    assert_eq!(store.add("b", TensorType::F32, &Shape::new(&[1]).unwrap()), Err(StoreError::Full));
    assert_eq!(store.map("c"), Err(StoreError::NoTensor("c".to_owned())));
    let mut store = Store::new(1, None).unwrap();
    let shape = Err(StoreError::Shape { ty: TensorType::Q8_0, shape: ne([31]) });
    assert_eq!(store.add("b", TensorType::Q8_0, &Shape::new(&[31]).unwrap()), shape);
    let shape = Err(StoreError::Shape { ty: TensorType::F32, shape: ne([4, 0]) });
    assert_eq!(store.add("b", TensorType::F32, &Shape::new(&[4, 0]).unwrap()), shape);
    assert!(store.is_empty());
    store.add("", TensorType::F32, &Shape::new(&[4]).unwrap()).unwrap();
}

/// Two computations at once over one store: one writes rows, the other reads them. Each must see it whole.
#[test]
fn a_store_is_written_by_one_at_a_time() {
    let width = 1 << 16;
    let mut store = Store::new(1, None).unwrap();
    let id = store.add("a", TensorType::F32, &Shape::new(&[width, 1]).unwrap()).unwrap();
    let store = Arc::new(store);
    std::thread::scope(|scope| {
        let writer = store.clone();
        scope.spawn(move || {
            // The same store under two numbers is locked once.
            let (graph, (x, row)) = graph(vec![writer.clone(), writer], |b| {
                let (x, new) = b.input("x", TensorType::F32, ne([width as i64, 1]))?;
                let (row, ids) = b.input("row", TensorType::I64, ne([1]))?;
                b.set_rows(b.stored(1, id), new, ids)?;
                Ok((x, row))
            })
            .unwrap();
            let mut cpu = Cpu::new(1, false).unwrap();
            cpu.load(graph).unwrap();
            for n in 0..200u8 {
                cpu.write(x, &vec![f32::from(n); width as usize]).unwrap();
                cpu.write(row, &[0i64]).unwrap();
                cpu.run().unwrap();
            }
        });
        let (graph, output) = graph(vec![store.clone()], |b| b.output(b.cont(b.stored(0, id))?)).unwrap();
        let mut cpu = Cpu::new(1, false).unwrap();
        cpu.load(graph).unwrap();
        for _ in 0..200 {
            cpu.run().unwrap();
            let mut values = Vec::<f32>::new();
            cpu.read(output, &mut values).unwrap();
            assert!(values.iter().all(|x| *x == values[0]), "torn");
        }
    });
}

/// A file of one tensor, of which the store is made; its data at `general.alignment` 32 or 8.
fn mapped(alignment: u32) -> (tempfile::TempDir, Store, StoreId) {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::new();
    writer.set_alignment(alignment).unwrap();
    // Of any eight numbers of alignment bytes of metadata, some put the data where ggml cannot take it.
    for n in 0..8 {
        let path = folder.path().join(format!("{n}.gguf"));
        writer.set(&format!("k{n}"), 1u8).unwrap();
        let mut writer = writer.clone();
        writer.add_tensor("a", TensorType::F32, Shape::new(&[2, 2]).unwrap()).unwrap();
        let mut out = writer.create(&path, Split::None).unwrap();
        out.write("a", &bytes(&[1.0, 2.0, 3.0, 4.0])).unwrap();
        out.finish().unwrap();
        let gguf = Arc::new(Gguf::open(&path).unwrap());
        let odd = gguf.tensor("a").unwrap().data.as_ptr().align_offset(32) != 0;
        if odd == (alignment < 32) {
            let mut store = Store::new(1, Some(gguf)).unwrap();
            let id = store.map("a").unwrap();
            return (folder, store, id);
        }
    }
    panic!("data of alignment {alignment} lies as if of another");
}

#[test]
fn tensors_of_a_file_stay_in_it_or_are_copied() {
    let (_folder, mut store, id) = mapped(32);
    assert_eq!(store.n_owned_bytes(), 0);
    assert_eq!(store.write(id, 0, &[0; 4]), Err(StoreError::ReadOnly));
    assert_eq!(store.zero(id, 0..4), Err(StoreError::ReadOnly));
    assert_eq!(store.map("a"), Err(StoreError::Full));
    let store = Arc::new(store);
    graph(vec![store.clone()], |b| {
        let (_, ids) = b.input("ids", TensorType::I32, ne([1]))?;
        let (_, row) = b.input("row", TensorType::F32, ne([2]))?;
        let a = b.stored(0, id);
        for a in [a, b.view(a, ne([2, 1]), [8, 16, 16], 8)?, b.reshape(a, ne([2, 2]))?] {
            let error = b.set_rows(a, row, ids).unwrap_err();
            assert!(error.problem.ends_with("is not to be written"), "{error}");
        }
        Ok(())
    })
    .unwrap();

    let (_folder, copied, copied_id) = mapped(8);
    assert_eq!(copied.n_owned_bytes(), 16);
    for (store, id) in [(&*store, id), (&copied, copied_id)] {
        let mut out = [0; 16];
        store.read(id, 0, &mut out).unwrap();
        assert_eq!(out[..], bytes(&[1.0, 2.0, 3.0, 4.0]));
    }
}

/// Plans of the scheduler are made for as many nodes, whatever these need of each other: an output that is kept in
/// one graph must not be overwritten because another of as many nodes did without.
#[test]
fn graphs_of_a_scheduler_have_plans_of_their_own() {
    let chain = |kept: bool| {
        graph(vec![], |b| {
            let (x, a) = b.input("x", TensorType::F32, ne([64]))?;
            let first = b.scale_bias(a, 2.0, 0.0)?;
            let early = if kept { Some(b.output(first)?) } else { None };
            let mut last = first;
            for _ in 0..6 {
                // Sums, so that the results cannot lie where what they are made of does.
                last = b.add(b.sum_rows(b.repeat(last, ne([64]))?)?, b.sum_rows(last)?)?;
                last = b.repeat(last, ne([64]))?;
            }
            Ok((x, early, b.output(last)?))
        })
        .unwrap()
    };
    let run = |cpu: &mut Cpu, kept: bool| {
        let (graph, (x, early, last)) = chain(kept);
        cpu.load(graph).unwrap();
        cpu.write(x, &[0.01f32; 64]).unwrap();
        cpu.run().unwrap();
        let (mut first, mut values) = (Vec::<f32>::new(), Vec::<f32>::new());
        if let Some(early) = early {
            cpu.read(early, &mut first).unwrap();
        }
        cpu.read(last, &mut values).unwrap();
        (first, values)
    };
    let mut alone = Cpu::new(1, false).unwrap();
    let mut scheduled = Cpu::scheduled(1);
    for kept in [false, true, false, true] {
        let (first, last) = run(&mut scheduled, kept);
        assert_eq!((&first, &last), (&run(&mut alone, kept).0, &run(&mut alone, kept).1));
        assert!(!kept || first == [0.02; 64], "{first:?}");
        assert_eq!(scheduled.n_pieces(), 1);
    }
}
