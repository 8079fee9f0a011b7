# docker build -t wan-atelier . && docker run -p 7860:7860 -v wan:/home/user/outputs wan-atelier
# For a GPU, torch's CUDA build in place of the pinned one:
# docker build --build-arg CONSTRAINTS=requirements.txt -t wan-atelier . && docker run --gpus all -p 7860:7860 -v wan:/home/user/outputs wan-atelier
FROM python:3.11-slim
ARG CONSTRAINTS=requirements.lock

# Triton's kernels and WAN_COMPILE build code where they run
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 1000 user
USER user
RUN mkdir /home/user/outputs /home/user/cache /home/user/models  # a volume takes over whose they are
WORKDIR /home/user/app
ENV PATH=/home/user/.local/bin:$PATH \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_TEMP_DIR=/home/user/cache \
    WAN_OUTPUTS=/home/user/outputs \
    HF_HOME=/home/user/models \
    PYTHONUNBUFFERED=1

COPY --chown=user requirements.txt requirements.lock ./
RUN pip install --no-cache-dir --user -r requirements.txt -c $CONSTRAINTS
COPY --chown=user . .

EXPOSE 7860
HEALTHCHECK --start-period=60s --interval=30s CMD \
    python -c "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ.get('GRADIO_SERVER_PORT', '7860'), timeout=5)"
CMD ["python", "app.py"]
