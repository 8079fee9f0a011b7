# docker build -t wan-atelier . && docker run -p 7860:7860 -v wan:/home/user/outputs wan-atelier   (add --gpus all for a GPU)
FROM python:3.11-slim

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
RUN pip install --no-cache-dir --user -r requirements.txt -c requirements.lock
COPY --chown=user . .

EXPOSE 7860
CMD ["python", "app.py"]
