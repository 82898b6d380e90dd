//! Logits to the next token.
//!
//! Owns the parameters, the history that penalties look back on, and the random numbers. Knows no tensor:
//! it is given one logit for each token of the vocabulary.
//!
//! # The order
//!
//! Every step sees what the steps before it left. One that is off changes nothing; all are off in
//! [`SamplerParams::default`].
//!
//! 1. **Allowed tokens**: what a grammar forbids is out.
//! 2. **Logit bias**: added to the tokens named; minus infinity forbids one.
//! 3. **Repetition, presence and frequency penalties**: tokens that occurred lately count for less.
//! 4. **DRY**: so do tokens that would go on with a sequence that occurred already.
//! 5. **Top-k**: the k most likely tokens stay.
//! 6. **Typical**: those whose surprise is nearest to the expected one stay.
//! 7. **Top-p**: the most likely tokens that together have the probability p stay.
//! 8. **Min-p**: those at least p times as likely as the most likely one stay.
//! 9. **XTC**: now and then all likely tokens but the least likely of them go.
//! 10. **Temperature**: below 1 sharpens what is left, above 1 flattens it.
//! 11. **The draw.**
//!
//! Truncation (5 to 9) therefore judges probabilities at temperature 1, as llama.cpp's does by default.
//! Temperature 0 is greedy: the best token after step 4, of equals the one with the lowest id.
//!
//! # What is reproducible
//!
//! The same parameters, seed, history and logits give the same token. Nothing depends on a hash, on
//! the address of anything, or on how the standard library sorts: the random numbers are a published stream
//! (see [`Sampler::seed`]), and every sum runs over tokens in an order that is written down here. Another
//! processor may round `exp` differently in the last bit; that moves a probability by some 10⁻⁷.

mod breaker;
mod candidates;
mod dry;
mod error;
mod params;
mod penalties;
mod random;
mod scores;
mod token_set;
mod truncate;
mod xtc;

#[cfg(test)]
mod properties;

pub use breaker::{Spell, spell};
pub use error::{ParamError, SampleError};
pub use params::SamplerParams;
pub use token_set::TokenSet;

use candidates::Candidates;
use dry::Dry;
use penalties::Penalties;
use random::Random;

/// Picks the tokens of one sequence.
#[derive(Clone)]
pub struct Sampler {
    params: SamplerParams,
    n_vocab: usize,
    penalties: Option<Penalties>,
    dry: Option<Dry>,
    random: Random,
    /// The logits after steps 1 to 4; kept for its memory.
    scores: Vec<f32>,
    candidates: Candidates,
}

impl Sampler {
    /// A sampler for logits of `n_vocab` tokens. DRY asks `spell` for the texts of tokens; see [`spell()`].
    ///
    /// # Errors
    ///
    /// A parameter is out of its range, or no seed was given and the system has none.
    pub fn new(params: &SamplerParams, n_vocab: usize, spell: Spell) -> Result<Sampler, ParamError> {
        params.validate(n_vocab)?;
        let random = match params.seed {
            Some(seed) => Random::from_seed(seed),
            None => Random::from_system().map_err(ParamError::NoSeed)?,
        };
        Ok(Sampler {
            n_vocab,
            penalties: Penalties::new(params),
            dry: Dry::new(params, spell),
            random,
            scores: Vec::new(),
            candidates: Candidates::default(),
            params: params.clone(),
        })
    }

    /// The seed in force: the one asked for, or the one drawn. It replays this sampler.
    ///
    /// The random numbers are the key stream of ChaCha with 8 rounds, its key the seed in eight bytes, little
    /// end first, and 24 zeros; 64 bits of it make one number.
    pub fn seed(&self) -> u64 {
        self.random.seed()
    }

    /// Takes note of a token of the sequence, generated or not.
    pub fn accept(&mut self, token: u32) {
        if let Some(penalties) = &mut self.penalties {
            penalties.accept(token);
        }
        if let Some(dry) = &mut self.dry {
            dry.accept(token);
        }
    }

    /// Takes note of the tokens of a prompt.
    pub fn accept_prompt(&mut self, tokens: &[u32]) {
        tokens.iter().for_each(|&token| self.accept(token));
    }

    /// The next token. It is not accepted yet: that is for the caller, who may want another one instead.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, SampleError> {
        self.sample_among(logits, None)
    }

    /// The next token, one of those `allowed`.
    ///
    /// # Errors
    ///
    /// A logit is not a number or is infinite, there are more or fewer than tokens, or every token is
    /// forbidden.
    pub fn sample_among(&mut self, logits: &[f32], allowed: Option<TokenSet<'_>>) -> Result<u32, SampleError> {
        let best = self.choose(logits, allowed)?;
        if self.params.temperature == 0.0 {
            return Ok(best);
        }
        let at = self.random.unit();
        Ok(self.candidates.at(at).unwrap_or(best))
    }

    /// The tokens that [`sample_among`](Sampler::sample_among) would draw from and their probabilities, the
    /// likeliest first. Asking does not change what will be drawn.
    pub fn probabilities(
        &mut self,
        logits: &[f32],
        allowed: Option<TokenSet<'_>>,
    ) -> Result<Vec<(u32, f32)>, SampleError> {
        let random = self.random.clone();
        let best = self.choose(logits, allowed);
        self.random = random;
        match self.params.temperature == 0.0 {
            true => Ok(vec![(best?, 1.0)]),
            false => best.map(|_| self.candidates.probabilities()),
        }
    }

    /// Steps 1 to 10. Gives the best token after step 4, and leaves the candidates unless that is all that
    /// counts.
    fn choose(&mut self, logits: &[f32], allowed: Option<TokenSet<'_>>) -> Result<u32, SampleError> {
        if logits.len() != self.n_vocab {
            return Err(SampleError::Length { expected: self.n_vocab, found: logits.len() });
        }
        let mut best = scores::best(logits)?;
        let mut scores = logits;
        if allowed.is_some() || self.penalties.is_some() || self.dry.is_some() || !self.params.logit_bias.is_empty() {
            self.adjust(logits, allowed);
            best = scores::best(&self.scores)?;
            scores = &self.scores;
        }
        let (Some((token, peak)), params) = (best, &self.params) else { return Err(SampleError::NothingAllowed) };
        if params.temperature == 0.0 {
            return Ok(token);
        }

        let candidates = &mut self.candidates;
        candidates.gather(scores, peak, params);
        candidates.typical(params.typical_p, params.min_keep());
        candidates.top_p(params.top_p, params.min_keep());
        candidates.min_p(params.min_p, params.min_keep());
        if params.xtc_probability > 0.0 && self.random.unit() < f64::from(params.xtc_probability) {
            candidates.exclude_top_choices(params.xtc_threshold, params.min_keep());
        }
        candidates.heat(params.temperature);
        Ok(token)
    }

    /// Steps 1 to 4, which leave finite what is finite.
    fn adjust(&mut self, logits: &[f32], allowed: Option<TokenSet<'_>>) {
        self.scores.clear();
        self.scores.extend_from_slice(logits);
        if let Some(allowed) = allowed {
            allowed.restrict(&mut self.scores);
        }
        for &(token, bias) in &self.params.logit_bias {
            match bias == f32::NEG_INFINITY {
                true => scores::forbid(&mut self.scores, token),
                false => scores::change(&mut self.scores, token, |score| score + bias),
            }
        }
        if let Some(penalties) = &self.penalties {
            penalties.apply(&mut self.scores);
        }
        if let Some(dry) = &mut self.dry {
            dry.apply(&mut self.scores);
        }
    }
}
