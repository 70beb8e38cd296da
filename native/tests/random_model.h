// Small random models and batches.
#pragma once

#include <cmath>
#include <random>
#include <vector>

#include "encoder.h"
#include "model.h"

namespace octavo {

struct Sizes {
  std::size_t heads = 2, head_size = 8, inner = 24, layers = 2, vocabulary = 20, positions = 160;
  Reads reads = Reads::one;
  bool per_token = false;
};

class RandomModel {
 public:
  explicit RandomModel(unsigned seed) : random_(seed) {}

  ModelSource model(const Sizes& sizes) {
    const std::size_t hidden = sizes.heads * sizes.head_size;
    ModelSource model;
    model.hidden = hidden;
    model.heads = sizes.heads;
    model.reads = sizes.reads;
    model.max_length = static_cast<std::int64_t>(sizes.positions / 2);
    model.segment_stride = model.max_length;
    model.vocabulary = sizes.vocabulary;
    model.positions = sizes.positions;
    model.words = floats(sizes.vocabulary * hidden);
    model.position_table = floats(sizes.positions * hidden);
    model.embedding_norm = norm(hidden);
    for (std::size_t i = 0; i < sizes.layers; ++i) {
      LayerSource layer;
      if (sizes.reads == Reads::one && i + 1 == sizes.layers)
        layer.qkv = {linear(hidden, hidden, sizes), linear(hidden, 2 * hidden, sizes)};
      else
        layer.qkv = {linear(hidden, 3 * hidden, sizes)};
      layer.attention_output = linear(hidden, hidden, sizes);
      layer.attention_norm = norm(hidden);
      layer.ffn1 = linear(hidden, sizes.inner, sizes);
      layer.ffn2 = linear(sizes.inner, hidden, sizes);
      layer.ffn_norm = norm(hidden);
      model.layers.push_back(std::move(layer));
    }
    model.output = DenseSource{hidden, 3, floats(3 * hidden), floats(3)};
    return model;
  }

  LinearSource linear(std::size_t inputs, std::size_t outputs, const Sizes& sizes) {
    LinearSource linear;
    linear.inputs = inputs;
    linear.outputs = outputs;
    for (std::size_t i = 0; i < inputs * outputs; ++i)
      linear.weight.push_back(static_cast<std::int8_t>(static_cast<int>(random_() % 255) - 127));
    linear.weight_scale.assign(outputs, 1.0f / (73.0f * std::sqrt(static_cast<float>(inputs))));
    linear.bias = floats(outputs);
    if (!sizes.per_token) linear.input_scale = 3.0f / 127;
    return linear;
  }

  std::vector<float> floats(std::size_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> values(count);
    for (float& value : values) value = normal(random_);
    return values;
  }

  LayerNormSource norm(std::size_t hidden) {
    LayerNormSource norm{std::vector<float>(hidden, 1.0f), floats(hidden), 1e-5f};
    return norm;
  }

  std::mt19937& random() { return random_; }

 private:
  std::mt19937 random_;
};

// A batch that owns its arrays.
struct OwnedBatch {
  std::vector<std::int64_t> ids, offsets{0}, segments, reads;

  OwnedBatch() = default;
  OwnedBatch(const std::vector<std::size_t>& lengths, std::mt19937& random, std::size_t vocabulary) {
    for (std::size_t length : lengths) {
      for (std::size_t i = 0; i < length; ++i) ids.push_back(static_cast<std::int64_t>(random() % vocabulary));
      offsets.push_back(static_cast<std::int64_t>(ids.size()));
    }
  }

  Batch batch() const {
    return {ids.data(),
            ids.size(),
            offsets.data(),
            offsets.size() - 1,
            segments.empty() ? nullptr : segments.data(),
            reads.empty() ? nullptr : reads.data(),
            reads.size()};
  }
};

// Checks and runs a batch; the answer is exactly as large as it must be, so that a sanitizer sees a write beyond it.
inline std::vector<float> answer(Encoder& encoder, const OwnedBatch& owned) {
  const Batch batch = owned.batch();
  encoder.check(batch);
  std::vector<float> output(encoder.outputs(batch) * encoder.width());
  encoder.run(batch, output.data());
  return output;
}

}  // namespace octavo
