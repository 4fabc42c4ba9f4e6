# A static binary and nothing else. scripts/image builds the binary and this image; to build the binary
# by hand: RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --target x86_64-unknown-linux-gnu
FROM scratch
COPY target/image/countersign /countersign
COPY --chown=10001:10001 target/image/data /data
USER 10001:10001
VOLUME /data
EXPOSE 8420
ENV COUNTERSIGN_DIR=/data
ENTRYPOINT ["/countersign"]
CMD ["dev", "--listen", "127.0.0.1:8420"]
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s CMD ["/countersign", "health"]
