// One batch around the library's transforms: expose, forward, project, inverse, apply. All frames of a batch see the same
// object and probe; batches depend on each other. Grids: (blocks,) over pixels, project (chunks, batch).

// Where mode m of frame b of the batch begins in the field.
__device__ inline long long plane(int b, int m, int pixels) { return static_cast<long long>(b * MODES + m) * pixels; }

// Before the first batch of a slice.
extern "C" __global__ void prepare(const Slice* slice) {
    const Slice& s = *slice;
    const int nx = static_cast<int>(s.nx), pixels = static_cast<int>(s.ny) * nx, i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < pixels) {
        float power = 0.0f;
        for (int m = 0; m < MODES; ++m) power += square(s.probe[m * pixels + i]);
        s.power[i] = power;
    }
    if (i == 0) {
        for (int j = 0; j < 4; ++j) s.tops[j] = 0.0f;
        for (int j = 0; j < 3; ++j) s.cursor[j] = 0;
    }
}

// Exit waves; the windows as they were; how much light each pixel of the object, and of the probe, gets from the batch.
extern "C" __global__ void expose(const Slice* slice) {
    SHARED(float, scratch);
    const Slice& s = *slice;
    const Batch batch(s, s.cursor[0]);
    const int nx = static_cast<int>(s.nx), pixels = static_cast<int>(s.ny) * nx, i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i == 0) s.cursor[1] = s.cursor[0];
    float strength = 0.0f;
    if (i < pixels) {
        const long long at = i / nx * s.pitch + i % nx;
        const float power = s.power[i];
        float2 probe[MODES];
        for (int m = 0; m < MODES; ++m) probe[m] = s.probe[m * pixels + i];
        for (int b = 0; b < batch.frames; ++b) {
            const long long there = corner_of(s, batch.first + b) + at;
            const float2 window = s.object[there];
            s.old[static_cast<long long>(b) * pixels + i] = window;
            strength += square(window);
            atomicAdd(&s.cover[batch.parity * s.canvas + there], power);
            for (int m = 0; m < MODES; ++m) s.field[plane(b, m, pixels) + i] = times(probe[m], window);
        }
        s.strength[i] = strength;
    }
    raise(&s.tops[2 * batch.parity + 1], strength, scratch);
}

// Modulus projection of a chunk of one frame, its sums, and the largest cover under the frame. The transforms on either
// side are not normalised.
extern "C" __global__ void project(const Slice* slice) {
    SHARED(float, scratch);
    const Slice& s = *slice;
    const Batch batch(s, s.cursor[1]);
    const int b = blockIdx.y;
    if (b >= batch.frames) return;
    const int nx = static_cast<int>(s.nx), pixels = static_cast<int>(s.ny) * nx;
    const long long k = batch.first + b, row = s.rows[k], corner = corner_of(s, k);
    const float norm = 1.0f / static_cast<float>(pixels), flux = s.flux[row];
    float sums[SUMS] = {}, cover = 0.0f;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < pixels; i += gridDim.x * blockDim.x) {
        const int y = i / nx, x = i % nx;
        float2 field[MODES];
        float power = 0.0f;
        for (int m = 0; m < MODES; ++m) {
            field[m] = s.field[plane(b, m, pixels) + i];
            power += square(field[m]);
        }
        power *= norm;
        if (s.background) power += s.background[i];
        const float factor = norm * project_pixel(power, s.amplitudes[row * pixels + i], flux, signed_frequency(y, s.ny),
                                                  signed_frequency(x, s.nx), sums);
        for (int m = 0; m < MODES; ++m) s.field[plane(b, m, pixels) + i] = factor * field[m];
        cover = fmaxf(cover, s.cover[batch.parity * s.canvas + corner + y * s.pitch + x]);
    }
    over_block<SUMS, false>(sums, scratch);
    if (threadIdx.x == 0) {
        for (int i = 0; i < SUMS; ++i) s.partial[(b * gridDim.x + blockIdx.x) * SUMS + i] = sums[i];
    }
    raise(&s.tops[2 * batch.parity], cover, scratch);
}

// Object and probe take the changes; each thread owns a pixel of the probe, the object is shared and takes atomics.
extern "C" __global__ void apply(const Slice* slice) {
    const Slice& s = *slice;
    const unsigned number = s.cursor[1];
    const Batch batch(s, number);
    const int nx = static_cast<int>(s.nx), pixels = static_cast<int>(s.ny) * nx, i = blockIdx.x * blockDim.x + threadIdx.x;
    const float top_cover = s.tops[2 * batch.parity], top_strength = s.tops[2 * batch.parity + 1];
    if (i < pixels) {
        const long long at = i / nx * s.pitch + i % nx;
        const float strength = s.strength[i];
        float2 probe[MODES], gradient[MODES];
        for (int m = 0; m < MODES; ++m) {
            probe[m] = s.probe[m * pixels + i];
            gradient[m] = make_float2(0.0f, 0.0f);
        }
        for (int b = 0; b < batch.frames; ++b) {
            const float4 step = s.steps[batch.first + b];
            const long long there = corner_of(s, batch.first + b) + at;
            const float2 window = weight(step.y, step.w, strength, top_strength) * s.old[static_cast<long long>(b) * pixels + i];
            float2 gain = make_float2(0.0f, 0.0f);
            for (int m = 0; m < MODES; ++m) {
                const float2 change = s.field[plane(b, m, pixels) + i];
                gain = gain + conjugate_times(probe[m], change);
                gradient[m] = gradient[m] + conjugate_times(window, change);
            }
            const float cover = s.cover[batch.parity * s.canvas + there];
            add(&s.object[there], weight(step.x, step.z, cover, top_cover) * gain);
        }
        float power = 0.0f;
        for (int m = 0; m < MODES; ++m) {
            const float2 changed = probe[m] + gradient[m];
            s.probe[m * pixels + i] = changed;
            power += square(changed);
        }
        s.power[i] = power;
        if (number > 0) {  // the other cover was used by the batch before: clear it for the next
            for (long long k = batch.first - s.batch; k < batch.first; ++k) {
                s.cover[(1 - batch.parity) * s.canvas + corner_of(s, k) + at] = 0.0f;
            }
        }
    }
    if (threadIdx.x == 0) {
        for (int b = blockIdx.x; b < batch.frames; b += gridDim.x) {
            float sums[SUMS] = {};
            for (int chunk = 0; chunk < CHUNKS; ++chunk) {
                for (int j = 0; j < SUMS; ++j) sums[j] += s.partial[(b * CHUNKS + chunk) * SUMS + j];
            }
            write_figures(s, batch.first + b, sums);
        }
    }
    if (i == 0) {
        s.tops[2 * (1 - batch.parity)] = s.tops[2 * (1 - batch.parity) + 1] = 0.0f;
        s.cursor[0] = number + 1;
    }
}

// After the last batch: its cover is cleared too.
extern "C" __global__ void finish(const Slice* slice) {
    const Slice& s = *slice;
    const int nx = static_cast<int>(s.nx), pixels = static_cast<int>(s.ny) * nx, i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= pixels || s.count == 0) return;
    const unsigned last = static_cast<unsigned>((s.count - 1) / s.batch);
    const Batch batch(s, last);
    for (int b = 0; b < batch.frames; ++b) {
        s.cover[batch.parity * s.canvas + corner_of(s, batch.first + b) + i / nx * s.pitch + i % nx] = 0.0f;
    }
}
