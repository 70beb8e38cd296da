// Attention of one head over one sequence, in float, on its true length.
//
// Keys are taken in blocks, with the softmax kept running (Milakov & Gimelshein 2018, https://arxiv.org/abs/1805.02867;
// Dao et al. 2022, FlashAttention, https://arxiv.org/abs/2205.14135), so that scratch does not grow with the square of
// the length. Short sequences have one block: their context never leaves the registers.
#pragma once

#include "elementary.h"
#include "kernels.h"

namespace octavo {
namespace {

constexpr std::size_t kQueryBlock = 8;
constexpr float kLeastScore = -1e30f;  // finite: a difference of two is no NaN

// A head's scratch, cut up. What lies between blocks of keys is not used where there is one block.
struct Scratch {
  float* keys;     // (head_size, kKeyBlock): transposed, so that lanes are keys
  float* values;   // (kKeyBlock, padded), where the head size fills no vectors
  float* context;  // (queries, padded), not yet divided by `sums`
  float* maxima;   // (queries,)
  float* sums;     // (queries,)
  std::size_t padded;  // head size

  explicit Scratch(const HeadOfSequence& head)
      : keys(head.scratch),
        values(keys + kKeyBlock * head.head_size),
        context(values + kKeyBlock * round_up(head.head_size, kFloatAlign)),
        maxima(context + head.queries * round_up(head.head_size, kFloatAlign)),
        sums(maxima + round_up(head.queries, kFloatAlign)),
        padded(round_up(head.head_size, kLanes)) {}
};

// A block of keys and their values.
struct Block {
  std::size_t keys;  // in it
  bool first, last;
  const float* transposed;  // (head_size, kKeyBlock)
  const float* values;
  std::size_t value_stride;
};

// One step of a transposition: rows that are kHalf apart swap halves of their runs of 2 * kHalf values.
template <std::size_t kHalf>
inline void swap_halves(Floats (&rows)[kLanes]) {
  Ints low, high;  // lanes of the two new rows: 0 to kLanes - 1 are the upper row's, the rest the lower row's
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    const bool swaps = (lane & kHalf) != 0;
    low[lane] = static_cast<std::int32_t>(swaps ? lane - kHalf + kLanes : lane);
    high[lane] = static_cast<std::int32_t>(swaps ? lane + kLanes : lane + kHalf);
  }
#pragma GCC unroll 16
  for (std::size_t i = 0; i < kLanes; ++i) {
    if ((i & kHalf) != 0) continue;
    const Floats upper = rows[i], lower = rows[i + kHalf];
    rows[i] = picked(upper, lower, low);
    rows[i + kHalf] = picked(upper, lower, high);
  }
  if constexpr (kHalf > 1) swap_halves<kHalf / 2>(rows);
}

// Turns a square of kLanes rows into columns. There are `count` rows to read; the others are zeros.
inline void transpose_square(const float* from, std::size_t stride, std::size_t count, float* to,
                             std::size_t to_stride) {
  Floats rows[kLanes];
#pragma GCC unroll 16
  for (std::size_t i = 0; i < kLanes; ++i) rows[i] = i < count ? load(from + i * stride) : Floats{};
  swap_halves<kLanes / 2>(rows);
#pragma GCC unroll 16
  for (std::size_t i = 0; i < kLanes; ++i) store(to + i * to_stride, rows[i]);
}

// Keys behind the last one are zeros.
inline void transpose_keys(const HeadOfSequence& head, const float* keys, std::size_t count, float* to) {
  for (std::size_t j = 0; j < count; j += kLanes) {
    const std::size_t rows = count - j < kLanes ? count - j : kLanes;
    std::size_t c = 0;
    for (; c + kLanes <= head.head_size; c += kLanes)
      transpose_square(keys + j * head.stride + c, head.stride, rows, to + c * kKeyBlock + j, kKeyBlock);
    for (; c < head.head_size; ++c)
      for (std::size_t i = 0; i < kLanes; ++i)
        to[c * kKeyBlock + j + i] = i < rows ? keys[(j + i) * head.stride + c] : 0.0f;
  }
}

inline Block gathered_block(const HeadOfSequence& head, const Scratch& scratch, std::size_t first) {
  const std::size_t left = head.length - first;
  Block block{left < kKeyBlock ? left : kKeyBlock, first == 0, left <= kKeyBlock, scratch.keys,
              head.value + first * head.stride, head.stride};
  transpose_keys(head, head.key + first * head.stride, block.keys, scratch.keys);
  if (scratch.padded != head.head_size) {
    for (std::size_t j = 0; j < block.keys; ++j) {
      float* value = scratch.values + j * scratch.padded;
      for (std::size_t c = 0; c < head.head_size; ++c) value[c] = block.values[j * head.stride + c];
      for (std::size_t c = head.head_size; c < scratch.padded; ++c) value[c] = 0.0f;
    }
    block.values = scratch.values;
    block.value_stride = scratch.padded;
  }
  return block;
}

// weights[i][j] = score of query i and key j; behind the last key the least score.
template <int kQueries>
inline void score(const HeadOfSequence& head, const Block& block, const float* query, float (*weights)[kKeyBlock]) {
  for (std::size_t j = 0; j < block.keys; j += kLanes) {
    Floats scores[kQueries] = {};
    for (std::size_t c = 0; c < head.head_size; ++c) {
      const Floats keys = load(block.transposed + c * kKeyBlock + j);
#pragma GCC unroll 8
      for (int i = 0; i < kQueries; ++i) scores[i] += query[i * head.query_stride + c] * keys;
    }
    const std::size_t left = block.keys - j;
#pragma GCC unroll 8
    for (int i = 0; i < kQueries; ++i)
      store(weights[i] + j, left >= kLanes ? scores[i] : first_lanes(scores[i], left, kLeastScore));
  }
}

// Replaces a query's scores by exp(score - maximum). Returns their sum.
inline float exponentiate(float* weights, std::size_t keys, float maximum) {
  Floats sum{};
  for (std::size_t j = 0; j < keys; j += kLanes) {
    const Floats weight = exponential(load(weights + j) - maximum);
    store(weights + j, weight);
    sum += j + kLanes <= keys ? weight : first_lanes(weight, keys - j, 0.0f);
  }
  return sum_of(sum);
}

inline float largest_score(const float* scores, std::size_t keys) {
  Floats largest = load(scores);
  for (std::size_t j = kLanes; j < keys; j += kLanes) largest = larger(largest, load(scores + j));
  return largest_of(largest);
}

// One block of keys for some queries.
template <int kQueries>
inline void attend_queries(const HeadOfSequence& head, const Scratch& scratch, const Block& block, std::size_t query) {
  alignas(64) float weights[kQueries][kKeyBlock];
  score<kQueries>(head, block, head.query + query * head.query_stride, weights);
  float kept[kQueries];     // share of what earlier blocks summed up that is left under the new maximum
  float inverse[kQueries];  // of the sum of weights
#pragma GCC unroll 8
  for (int i = 0; i < kQueries; ++i) {
    float& maximum = scratch.maxima[query + i];
    float& sum = scratch.sums[query + i];
    const float before = block.first ? kLeastScore : maximum;
    const float here = largest_score(weights[i], block.keys);
    maximum = here > before ? here : before;
    kept[i] = block.first ? 0.0f : exponential(broadcast(before - maximum))[0];
    sum = (block.first ? 0.0f : sum * kept[i]) + exponentiate(weights[i], block.keys, maximum);
    inverse[i] = 1.0f / sum;
  }
  for (std::size_t c = 0; c < scratch.padded; c += kLanes) {
    float* between = scratch.context + query * scratch.padded + c;
    Floats sums[kQueries] = {};
    if (!block.first) {
#pragma GCC unroll 8
      for (int i = 0; i < kQueries; ++i) sums[i] = load(between + i * scratch.padded) * kept[i];
    }
    for (std::size_t j = 0; j < block.keys; ++j) {
      const Floats values = load(block.values + j * block.value_stride + c);
#pragma GCC unroll 8
      for (int i = 0; i < kQueries; ++i) sums[i] += weights[i][j] * values;
    }
    if (!block.last) {
#pragma GCC unroll 8
      for (int i = 0; i < kQueries; ++i) store(between + i * scratch.padded, sums[i]);
      continue;
    }
    float* out = head.context + query * head.context_stride + c;
    const std::size_t left = head.head_size - c;
#pragma GCC unroll 8
    for (int i = 0; i < kQueries; ++i) {
      if (left >= kLanes) store(out + i * head.context_stride, sums[i] * inverse[i]);
      else store_first(out + i * head.context_stride, sums[i] * inverse[i], left);
    }
  }
}

void attend(const HeadOfSequence& head) {
  const Scratch scratch(head);
  for (std::size_t first = 0; first < head.length; first += kKeyBlock) {
    const Block block = gathered_block(head, scratch, first);
    std::size_t query = 0;
    for (; query + kQueryBlock <= head.queries; query += kQueryBlock)
      attend_queries<kQueryBlock>(head, scratch, block, query);
    switch (head.queries - query) {
      case 7: attend_queries<7>(head, scratch, block, query); break;
      case 6: attend_queries<6>(head, scratch, block, query); break;
      case 5: attend_queries<5>(head, scratch, block, query); break;
      case 4: attend_queries<4>(head, scratch, block, query); break;
      case 3: attend_queries<3>(head, scratch, block, query); break;
      case 2: attend_queries<2>(head, scratch, block, query); break;
      case 1: attend_queries<1>(head, scratch, block, query); break;
      default: break;
    }
  }
}

}  // namespace
}  // namespace octavo
