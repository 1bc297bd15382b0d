// What all kernels share. Complex numbers are float2, arrays are in (y, x) order.

struct Slice {                 // one run of dependent batches; uploaded once, everything the kernels need
    float2* object;            // canvas
    float2* probe;             // (modes, ny, nx)
    const float* amplitudes;   // (capacity, ny, nx), zero frequency first, negative where masked
    const float* flux;         // (capacity,)
    const float* background;   // (ny, nx) or null
    float* misfit;             // (capacity,)
    float* figures;            // (count, 4)
    float2* field;             // (batch, modes, ny, nx): exit waves, far fields, changes
    float2* old;               // (batch, ny, nx): windows before the batch; the fused path keeps a second probe here
    float2* gradient;          // (modes, ny, nx): the probe's change in the fused path; zero between batches
    float* strength;           // (ny, nx): sum of |object|^2 over the batch's windows
    float* cover;              // 2 canvases: sum of |probe|^2 over the windows of the batch; zero between slices
    float* power;              // (ny, nx): sum over modes of |probe|^2
    float* tops;               // (2, 2): largest cover and strength, for batches of even and odd number
    float* partial;            // (batch, chunks, SUMS)
    unsigned* cursor;          // number of the batch (as read first, as read later), blocks that reached the barrier
    const float2* roots;       // exp(-2 pi i k / n), k < n, of the fused path
    const float4* steps;       // (count,): alpha, beta, gamma of the object, gamma of the probe
    const long long* rows;     // (count,)
    const long long* corners;  // (count, 2)
    long long pitch, canvas;   // pixels in a row of the canvas, and in all
    long long count, batch, ny, nx;
};

constexpr float TINY = 1e-9f;  // as in equations/modulus.py
constexpr int SUMS = 5;        // misfit, power, its moments in y and x, sum of A |model|

__device__ inline float2 operator+(float2 a, float2 b) { return make_float2(a.x + b.x, a.y + b.y); }
__device__ inline float2 operator-(float2 a, float2 b) { return make_float2(a.x - b.x, a.y - b.y); }
__device__ inline float2 operator*(float a, float2 b) { return make_float2(a * b.x, a * b.y); }
__device__ inline float2 times(float2 a, float2 b) { return make_float2(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x); }
__device__ inline float2 conjugate_times(float2 a, float2 b) {
    return make_float2(a.x * b.x + a.y * b.y, a.x * b.y - a.y * b.x);
}
__device__ inline float square(float2 a) { return a.x * a.x + a.y * a.y; }

// The frames of one batch; `parity` picks one of the two sets of maxima and covers.
struct Batch {
    long long first;
    int frames, parity;
    __device__ Batch(const Slice& s, unsigned number) {
        first = number * s.batch;
        const long long left = s.count - first;
        frames = static_cast<int>(left < 0 ? 0 : left < s.batch ? left : s.batch);
        parity = number & 1;
    }
};

__device__ inline long long corner_of(const Slice& s, long long k) { return s.corners[2 * k] * s.pitch + s.corners[2 * k + 1]; }

__device__ inline float signed_frequency(int i, long long n) { return static_cast<float>(i < (n + 1) / 2 ? i : i - n); }

// Sums (or maxima) over the block; the result is valid in thread 0. `scratch` holds 32 COUNT floats.
template <int COUNT, bool LARGEST>
__device__ void over_block(float (&v)[COUNT], float* scratch) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = (blockDim.x + 31) / 32;
    for (int stage = 0; stage < 2; ++stage) {
        for (int i = 0; i < COUNT; ++i) {
            for (int offset = 16; offset > 0; offset /= 2) {
                const float other = __shfl_down_sync(0xffffffffu, v[i], offset);
                v[i] = LARGEST ? fmaxf(v[i], other) : v[i] + other;
            }
        }
        if (stage == 1) return;
        __syncthreads();
        if (lane == 0) {
            for (int i = 0; i < COUNT; ++i) scratch[i * 32 + warp] = v[i];
        }
        __syncthreads();
        for (int i = 0; i < COUNT; ++i) v[i] = lane < warps ? scratch[i * 32 + lane] : 0.0f;
    }
}

// Raise *top to the block's largest value; values are not negative, so that they order like integers.
__device__ inline void raise(float* top, float value, float* scratch) {
    float v[1] = {value};
    over_block<1, true>(v, scratch);
    if (threadIdx.x == 0) atomicMax(reinterpret_cast<int*>(top), __float_as_int(v[0]));
}

// step / ((1 - gamma) amount + gamma top), 0 where all is dark.
__device__ inline float weight(float step, float gamma, float amount, float top) {
    const float denominator = (1.0f - gamma) * amount + gamma * top;
    return denominator > 0.0f ? step / denominator : 0.0f;
}

// Modulus projection at one pixel: the factor that turns the model there into its change; adds to the sums.
// `power` is the model's intensity, coherent and not.
__device__ inline float project_pixel(float power, float amplitude, float flux, float fy, float fx, float (&sums)[SUMS]) {
    if (amplitude < 0.0f) return 0.0f;
    const float modulus = sqrtf(power), residual = amplitude / flux - modulus;
    sums[0] += residual * residual;
    sums[1] += power;
    sums[2] += power * fy;
    sums[3] += power * fx;
    sums[4] += amplitude * modulus;
    return residual / (modulus + TINY);
}

__device__ inline void write_figures(const Slice& s, long long k, const float (&sums)[SUMS]) {
    const float total = fmaxf(sums[1], TINY);
    s.misfit[s.rows[k]] = sums[0];
    s.figures[4 * k] = sums[2] / total;
    s.figures[4 * k + 1] = sums[3] / total;
    s.figures[4 * k + 2] = sums[4];
    s.figures[4 * k + 3] = sums[1];
}
