# A BIDS App:
#   docker build --tag infant-seg .                                # for CPUs
#   docker build --build-arg VARIANT=cuda13 --tag infant-seg .     # for GPUs; or cuda12
#   docker run --rm --read-only --tmpfs /tmp --network none --user "$(id -u):$(id -g)" \
#     -v BIDS_DIR:/data:ro -v OUTPUT_DIR:/out infant-seg /data /out participant
# Compiled programs are kept in /tmp/cache: mount a folder there, and later runs need not compile.

FROM python:3.13-slim AS build
ARG VARIANT=cpu
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY configs configs
COPY infant_seg_jax infant_seg_jax
RUN python -m venv /opt/infant-seg \
 && if [ "$VARIANT" = cpu ]; then extra=; else extra="[$VARIANT]"; fi \
 && /opt/infant-seg/bin/pip install --no-cache-dir --constraint constraints.txt ".$extra"

FROM python:3.13-slim
COPY --from=build /opt/infant-seg /opt/infant-seg
ENV PATH=/opt/infant-seg/bin:$PATH \
    HOME=/tmp \
    XDG_CACHE_HOME=/tmp/cache \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1
USER 1000:1000
WORKDIR /tmp
ENTRYPOINT ["infant-seg-bids"]
CMD ["--help"]
