//! Linear prediction analysis and its line spectral pairs: clauses 3.2.1 to 3.2.3 and 3.2.6.

use std::f32::consts::{PI, TAU};
use std::sync::LazyLock;

use super::{Lpc, Lsp, ORDER};

/// Samples under the window: 15 ms of the past, 10 ms of the frame, 5 ms of what follows.
pub const WINDOW: usize = 240;

/// Half of a Hamming window, then a quarter of a cosine.
static SHAPE: LazyLock<[f32; WINDOW]> = LazyLock::new(|| {
    std::array::from_fn(|index| match index {
        0..200 => 0.54 - 0.46 * (TAU * index as f32 / 399.0).cos(),
        _ => (TAU * (index - 200) as f32 / 159.0).cos(),
    })
});

/// Widens peaks of the spectrum by 60 Hz and adds a floor of noise at -40 dB.
static LAG_SHAPE: LazyLock<[f32; ORDER + 1]> = LazyLock::new(|| {
    std::array::from_fn(|lag| match lag {
        0 => 1.0001,
        _ => (-0.5 * (TAU * 60.0 * lag as f32 / 8000.0).powi(2)).exp(),
    })
});

/// Finds the predictor of the signal in the window.
pub fn analyse(signal: &[f32; WINDOW]) -> Lpc {
    let mut shaped = *signal;
    for (sample, shape) in shaped.iter_mut().zip(SHAPE.iter()) {
        *sample *= shape;
    }
    let mut correlation: [f32; ORDER + 1] =
        std::array::from_fn(|lag| super::filter::dot(&shaped[lag..], &shaped[..WINDOW - lag]));
    correlation[0] = correlation[0].max(1.0);
    for (value, shape) in correlation.iter_mut().zip(LAG_SHAPE.iter()) {
        *value *= shape;
    }
    levinson(&correlation)
}

fn levinson(correlation: &[f32; ORDER + 1]) -> Lpc {
    let mut lpc = [0.0; ORDER + 1];
    lpc[0] = 1.0;
    let mut error = correlation[0];
    for order in 1..=ORDER {
        let sum: f32 = (0..order).map(|lag| lpc[lag] * correlation[order - lag]).sum();
        let reflection = -sum / error;
        let former = lpc;
        for lag in 1..order {
            lpc[lag] += reflection * former[order - lag];
        }
        lpc[order] = reflection;
        error *= 1.0 - reflection * reflection;
        if error <= 0.0 {
            break;
        }
    }
    lpc
}

/// Points at which the polynomials are looked at for a change of sign, and halvings after.
const GRID: usize = 60;
const HALVINGS: usize = 4;

/// Finds the line spectral pairs; None when rounding hides one of them.
pub fn to_lsp(lpc: &Lpc) -> Option<Lsp> {
    let mut polynomials = [[1.0; ORDER / 2 + 1]; 2];
    for index in 0..ORDER / 2 {
        let (low, high) = (lpc[index + 1], lpc[ORDER - index]);
        polynomials[0][index + 1] = low + high - polynomials[0][index];
        polynomials[1][index + 1] = low - high + polynomials[1][index];
    }
    let mut lsp = [0.0; ORDER];
    let mut found = 0;
    let mut low = (1.0, chebyshev(&polynomials[0], 1.0));
    for point in 1..=GRID {
        let at = (PI * point as f32 / GRID as f32).cos();
        // Roots of the two polynomials alternate; more than one may lie between two points.
        loop {
            let polynomial = &polynomials[found % 2];
            let high = (at, chebyshev(polynomial, at));
            if low.1 * high.1 > 0.0 {
                low = high;
                break;
            }
            let root = bisect(polynomial, low, high);
            lsp[found] = root;
            found += 1;
            if found == ORDER {
                return Some(lsp);
            }
            low = (root, chebyshev(&polynomials[found % 2], root));
        }
    }
    None
}

fn bisect(polynomial: &[f32; 6], mut low: (f32, f32), mut high: (f32, f32)) -> f32 {
    for _ in 0..HALVINGS {
        let at = 0.5 * (low.0 + high.0);
        let value = chebyshev(polynomial, at);
        if low.1 * value <= 0.0 {
            high = (at, value);
        } else {
            low = (at, value);
        }
    }
    let rise = high.1 - low.1;
    if rise == 0.0 { low.0 } else { low.0 - low.1 * (high.0 - low.0) / rise }
}

/// A sum of Chebyshev polynomials, equation 17.
fn chebyshev(polynomial: &[f32; 6], at: f32) -> f32 {
    let (mut second, mut first) = (polynomial[0], 2.0 * at + polynomial[1]);
    for coefficient in &polynomial[2..5] {
        (second, first) = (first, 2.0 * at * first - second + coefficient);
    }
    at * first - second + 0.5 * polynomial[5]
}

/// The predictor that has these line spectral pairs.
pub fn from_lsp(lsp: &Lsp) -> Lpc {
    let mut even = expand(lsp, 0);
    let mut odd = expand(lsp, 1);
    for index in (1..=ORDER / 2).rev() {
        even[index] += even[index - 1];
        odd[index] -= odd[index - 1];
    }
    let mut lpc = [1.0; ORDER + 1];
    for index in 1..=ORDER / 2 {
        lpc[index] = 0.5 * (even[index] + odd[index]);
        lpc[ORDER + 1 - index] = 0.5 * (even[index] - odd[index]);
    }
    lpc
}

/// The polynomial that has every second pair as roots, from `start`.
fn expand(lsp: &Lsp, start: usize) -> [f32; ORDER / 2 + 1] {
    let mut out = [0.0; ORDER / 2 + 1];
    out[0] = 1.0;
    out[1] = -2.0 * lsp[start];
    for index in 2..=ORDER / 2 {
        let factor = -2.0 * lsp[start + 2 * (index - 1)];
        out[index] = factor * out[index - 1] + 2.0 * out[index - 2];
        for lower in (2..index).rev() {
            out[lower] += factor * out[lower - 1] + out[lower - 2];
        }
        out[1] += factor;
    }
    out
}

/// The predictors of both subframes: halfway from the former frame, and of the frame itself.
pub fn interpolate(former: &Lsp, present: &Lsp) -> [Lpc; 2] {
    let halfway = std::array::from_fn(|index| 0.5 * (former[index] + present[index]));
    [from_lsp(&halfway), from_lsp(present)]
}

/// Pairs of a flat spectrum, with which a stream begins.
pub fn flat_lsp() -> Lsp {
    std::array::from_fn(|index| (PI * (index + 1) as f32 / 11.0).cos())
}
