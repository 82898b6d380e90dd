//! Weights in RAM on their way to a GPU before it is known which of them are needed there: those of the next layer go over
//! the bus while the GPU computes this one.
//!
//! What goes ahead goes expert by expert, with pauses: small copies which a graph waits for come behind what is on its way,
//! and at the bus's full speed prompts of 128 tokens were a fifth slower than without, at half of it no prompt was.

use super::gpu::Gpu;
use super::store::{Store, StoreId};
use super::tensor::OutOfMemory;
use super::upload::{Device, Event};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Matrices of the same number of experts, each with its place in the memory that they are sent to: the first of a
/// tensor there is the place of the first here.
pub struct Load {
    /// (where they lie in RAM, where they go).
    pub pairs: Vec<(StoreId, StoreId)>,
}

/// Sends loads, one behind the other, to the memory of one GPU. A load shares its memory with none that is next to it.
pub struct Courier {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

struct Desk {
    weights: Arc<Store>,
    memory: Arc<Store>,
    loads: Vec<Load>,
    /// Without it the memory lies in RAM.
    lane: Option<Lane>,
    going: Mutex<Going>,
    has_changed: Condvar,
}

/// Streams of a GPU.
struct Lane {
    /// What is sent goes there.
    own: Device,
    /// The graph's. Asked for by the thread that computes it alone.
    graph: Arc<Device>,
    /// What was computed until then has been.
    is_free: Event,
    /// What was sent until then is there.
    is_there: Event,
    /// Of the last experts that went ahead.
    pieces: [Event; PIECES],
}

/// Less than an expert takes.
const SHORT: Duration = Duration::from_micros(20);

/// Experts that are on their way at a time.
const PIECES: usize = 3;

/// Where things are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Going {
    /// The load that goes ahead.
    load: Option<usize>,
    /// How many of its experts are sent.
    n_sent: usize,
    /// Loads that go ahead in this step.
    n_loads: usize,
    is_over: bool,
}

impl Courier {
    /// What comes to a GPU is there for what is computed on `graph`.
    pub(super) fn new(
        weights: Arc<Store>,
        memory: Arc<Store>,
        loads: Vec<Load>,
        gpu: Option<(&Gpu, Arc<Device>)>,
    ) -> Result<Courier, OutOfMemory> {
        let lane = gpu.map(|(gpu, graph)| Lane::new(gpu, graph)).transpose()?;
        let (going, has_changed) = (Mutex::default(), Condvar::new());
        let desk = Arc::new(Desk { weights, memory, loads, lane, going, has_changed });
        let own = desk.clone();
        let thread = thread::Builder::new().name("courier".to_owned()).spawn(move || own.work());
        let thread = thread.map_err(|_| OutOfMemory { bytes: 2 << 20 })?;
        Ok(Courier { desk, thread: Some(thread) })
    }

    /// Before a step: has the first load go ahead, and then as many as `n_loads` in all.
    pub fn begin(&self, n_loads: usize) {
        self.cancel();
        let mut going = self.desk.going();
        going.n_loads = n_loads.min(self.desk.loads.len());
        self.desk.go(&mut going, 0);
    }

    /// Has nothing more go ahead; of a load that was, how many experts, its first, are sent. `None` if it was not: then
    /// nothing is on its way any more, and whoever asks may write to the memory by other means.
    pub fn take(&self, load: usize) -> Option<usize> {
        let mut going = self.desk.going();
        match going.load.take() {
            Some(ahead) if ahead == load => return Some(going.n_sent),
            // Nobody asked for it, whose memory this load may share.
            Some(_) => self.desk.settle(),
            None => {}
        }
        None
    }

    /// Sends experts of a load that was taken.
    pub fn send(&self, load: usize, experts: Range<usize>) {
        let _going = self.desk.going();
        self.desk.send(load, experts);
    }

    /// Has what is computed next wait for what was sent, and the next load go ahead.
    pub fn done(&self, load: usize) {
        let mut going = self.desk.going();
        self.desk.go(&mut going, load + 1);
        if let Some(lane) = &self.desk.lane {
            lane.is_there.wait_on(&lane.graph);
        }
    }

    /// Forgets what went ahead, which is not on its way any more then.
    pub fn cancel(&self) {
        let mut going = self.desk.going();
        *going = Going { is_over: going.is_over, ..Going::default() };
        self.desk.settle();
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        self.cancel();
        self.desk.going().is_over = true;
        self.desk.has_changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Desk {
    fn going(&self) -> MutexGuard<'_, Going> {
        self.going.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a load go ahead, to memory that nothing computed so far needs any more.
    fn go(&self, going: &mut Going, load: usize) {
        if let Some(lane) = &self.lane {
            lane.is_there.record(&lane.own);
            lane.is_free.record(&lane.graph);
            lane.is_free.wait_on(&lane.own);
        }
        (going.load, going.n_sent) = (Some(load).filter(|load| *load < going.n_loads), 0);
        self.has_changed.notify_all();
    }

    /// Waits for all that was sent.
    fn settle(&self) {
        if let Some(lane) = &self.lane {
            lane.own.wait();
        }
    }

    /// Experts of a load.
    fn n_experts(&self, load: usize) -> usize {
        let n = |(from, _): &(StoreId, StoreId)| usize::try_from(self.weights.get(*from).ne()[2]).unwrap_or(0);
        self.loads[load].pairs.iter().map(n).min().unwrap_or(0)
    }

    fn send(&self, load: usize, experts: Range<usize>) {
        for (from, to) in &self.loads[load].pairs {
            let (from, to) = (self.weights.get(*from), self.memory.get(*to));
            let one = from.nb()[2];
            let (offset, end) = (experts.start * one, experts.end * one);
            if !from.is_in_ram() || end > from.n_bytes() || end > to.n_bytes() || offset >= end {
                continue;
            }
            // SAFETY: within both tensors, of which one lies in RAM and stays as it is, and the other is memory that is
            // for this; the backend is alive.
            unsafe {
                let data = (*from.as_ptr()).data.cast_const().byte_add(offset);
                match &self.lane {
                    Some(lane) => {
                        ggml_sys::ggml_backend_tensor_set_async(
                            lane.own.as_ptr(),
                            to.as_ptr(),
                            data,
                            offset,
                            end - offset,
                        );
                    }
                    None => ggml_sys::ggml_backend_tensor_set(to.as_ptr(), data, offset, end - offset),
                }
            }
        }
    }

    /// What the thread does: sends what goes ahead, an expert at a time.
    fn work(&self) {
        let mut pace = Duration::ZERO;
        for piece in (0..PIECES).cycle() {
            let is_idle = |going: &mut Going| !going.is_over && self.next(going).is_none();
            let going = self.has_changed.wait_while(self.going(), is_idle);
            drop(going.unwrap_or_else(PoisonError::into_inner));
            if let Some(lane) = &self.lane {
                // The pause; besides, to wait for an event is to spin, and there are others who need the CPU. But the way
                // may have been shut for a while, which says nothing of how long the next takes.
                let begun = Instant::now();
                thread::sleep(pace * 3 / 4);
                lane.pieces[piece].wait();
                pace = begun.elapsed().min(pace * 2 + SHORT);
            }
            let mut going = self.going();
            if going.is_over {
                return;
            }
            // It may have been taken meanwhile.
            if let Some((load, expert)) = self.next(&going) {
                self.send(load, expert..expert + 1);
                going.n_sent += 1;
                if let Some(lane) = &self.lane {
                    lane.pieces[piece].record(&lane.own);
                }
            }
        }
    }

    /// The load and the expert that goes next.
    fn next(&self, going: &Going) -> Option<(usize, usize)> {
        let load = going.load.filter(|load| going.n_sent < self.n_experts(*load))?;
        Some((load, going.n_sent))
    }
}

impl Lane {
    fn new(gpu: &Gpu, graph: Arc<Device>) -> Result<Lane, OutOfMemory> {
        let event = || Event::new(gpu);
        let pieces = [event()?, event()?, event()?];
        Ok(Lane { own: Device::new(gpu)?, graph, is_free: event()?, is_there: event()?, pieces })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{Shape, TensorType};

    const EXPERTS: usize = 50;

    /// Two stores, and two tensors of as many experts in each; `what` says what is in those of the first.
    fn stores() -> (Arc<Store>, Arc<Store>, Vec<Load>) {
        let shape = Shape::new(&[8, 2, EXPERTS as u64]).unwrap();
        let [weights, memory] = [0, 1].map(|is_memory| {
            let mut store = Store::new(2, None).unwrap();
            for tensor in 0..2u8 {
                let id = store.add("experts", TensorType::F32, &shape).unwrap();
                let bytes: Vec<u8> = (0..EXPERTS * 64).map(|n| 1 + tensor + (n / 64) as u8).collect();
                if is_memory == 0 {
                    store.write(id, 0, &bytes).unwrap();
                }
            }
            store
        });
        let load = |n| Load { pairs: vec![(StoreId::nth(n), StoreId::nth(n))] };
        (Arc::new(weights), Arc::new(memory), vec![load(0), load(1)])
    }

    /// Of each expert in the memory of a load what its first byte is.
    fn there(memory: &Store, load: usize) -> Vec<u8> {
        let mut bytes = vec![0; EXPERTS * 64];
        memory.read(StoreId::nth(load), 0, &mut bytes).unwrap();
        bytes.chunks(64).map(|expert| expert[0]).collect()
    }

    #[test]
    fn loads_go_one_behind_the_other() {
        let (weights, memory, loads) = stores();
        let courier = Courier::new(weights, memory.clone(), loads, None).unwrap();
        assert_eq!(courier.take(0), None, "nothing was begun");
        for _ in 0..20 {
            courier.begin(2);
            for load in 0..2 {
                let n = courier.take(load).unwrap();
                let sent = there(&memory, load);
                let expected = |expert: usize| 1 + load as u8 + expert as u8;
                assert!((0..n).all(|expert| sent[expert] == expected(expert)), "{n}: {sent:?}");
                assert_eq!(courier.take(load), None, "it is taken");
                courier.send(load, EXPERTS - 2..EXPERTS);
                courier.send(load, EXPERTS..EXPERTS + 1);
                courier.done(load);
                let sent = there(&memory, load);
                assert!((EXPERTS - 2..EXPERTS).all(|expert| sent[expert] == expected(expert)), "{sent:?}");
            }
            assert_eq!(courier.take(2), None, "there are no more");
        }
    }

    #[test]
    fn what_is_called_off_goes_no_further() {
        let (weights, memory, loads) = stores();
        let courier = Courier::new(weights, memory, loads, None).unwrap();
        courier.begin(1);
        while courier.desk.going().n_sent < EXPERTS {
            thread::yield_now();
        }
        assert_eq!(courier.take(0), Some(EXPERTS));
        courier.done(0);
        assert_eq!(courier.take(1), None, "of two only one was to go");
        courier.begin(2);
        courier.cancel();
        assert_eq!(courier.take(0), None);
        // Another goes ahead, and is not asked for any more.
        courier.begin(2);
        assert_eq!((courier.take(1), courier.take(0)), (None, None));
    }
}
