// What a model is made of, as it was read from its graph: plain numbers, not yet laid out for any machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace octavo {

enum class Activation { gelu, gelu_tanh, relu, tanh };

// Which hidden states the head reads of each sequence.
enum class Reads {
  one,    // a single token: the last layer computes that row alone
  mean,   // the mean of all its tokens
  words,  // any number of tokens
};

// A linear layer with int8 weights, levels -127 to 127.
struct LinearSource {
  std::size_t inputs = 0;
  std::size_t outputs = 0;
  std::vector<std::int8_t> weight;        // (inputs, outputs)
  std::vector<float> weight_scale;        // (outputs,)
  std::vector<float> bias;                // (outputs,)
  std::vector<float> input_factor;        // (inputs,), or empty for 1: the input is multiplied by it before rounding
  std::optional<float> input_scale;       // of the whole input; absent: one for each token, from its largest value
};

struct LayerNormSource {
  std::vector<float> weight;  // (hidden,)
  std::vector<float> bias;    // (hidden,)
  float epsilon = 0;
};

// A float layer of the head.
struct DenseSource {
  std::size_t inputs = 0;
  std::size_t outputs = 0;
  std::vector<float> weight;  // (outputs, inputs)
  std::vector<float> bias;    // (outputs,)
};

struct LayerSource {
  // One layer with the columns of Q, K and V; or, where the last layer computes Q for one token only, Q and then KV.
  std::vector<LinearSource> qkv;
  LinearSource attention_output;
  LayerNormSource attention_norm;
  LinearSource ffn1;
  LinearSource ffn2;
  LayerNormSource ffn_norm;
};

struct ModelSource {
  std::size_t hidden = 0;
  std::size_t heads = 0;
  Activation activation = Activation::gelu;
  Reads reads = Reads::one;
  bool normalize = false;                     // output rows have length one
  Activation dense_activation = Activation::tanh;
  std::int64_t position_offset = 0;           // row of the position table of a sequence's first token
  std::int64_t segment_stride = 0;            // rows between the tables of segment 0 and 1; 0 where there is one table
  std::int64_t max_length = 0;                // tokens of the longest sequence
  std::size_t vocabulary = 0;
  std::size_t positions = 0;
  std::vector<float> words;                   // (vocabulary, hidden)
  std::vector<float> position_table;          // (positions, hidden)
  LayerNormSource embedding_norm;
  std::vector<LayerSource> layers;
  std::optional<DenseSource> dense;
  std::optional<DenseSource> output;

  std::size_t width() const { return output ? output->outputs : hidden; }
};

// Throws std::invalid_argument, naming the tensor, where sizes do not fit together or scales are not finite.
void check(const ModelSource& model);

}  // namespace octavo
