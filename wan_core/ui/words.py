"""The interface's words in English, Japanese and Chinese; the English one is the key.

Widgets are translated in the browser, by its language; what the server writes, by the language that
the browser says it prefers. What the core says, errors above all, is translated in ``told.py``.
"""

from __future__ import annotations

import gradio as gr

LANGUAGES: tuple[str, ...] = ("en", "ja", "zh")
#: English: (Japanese, Chinese). No dots: the browser takes them for paths.
WORDS = {
    # tabs and inputs
    "Text": ("テキスト", "文字"),
    "Image": ("画像", "图片"),
    "Reference": ("参照", "参考"),
    "Prompt": ("プロンプト", "提示词"),
    "What happens in the video?": ("どんな動画にしますか？", "视频里发生什么？"),
    "Quality": ("品質", "质量"),
    "Draft": ("下書き", "草稿"),
    "Standard": ("標準", "标准"),
    "Fine": ("精細", "精细"),
    "Length in frames": ("長さ（フレーム）", "长度（帧）"),
    "First frame": ("最初のフレーム", "首帧"),
    "Last frame": ("最後のフレーム", "尾帧"),
    "Fit": ("合わせ方", "适配"),
    "Crop to fill": ("切り抜き", "裁剪填满"),
    "Pad on white": ("白で余白", "白边补齐"),
    "Focus, across": ("焦点（横）", "焦点（横向）"),
    "Focus, down": ("焦点（縦）", "焦点（纵向）"),
    "Who or what": ("誰・何", "人物或物体"),
    "And": ("さらに", "还有"),
    "Voice": ("音声", "声音"),
    "Model": ("モデル", "模型"),
    "{model} is being downloaded: {done} of {total} GB": (
        "{model}をダウンロードしています：{total} GB中{done} GB", "正在下载 {model}：{done} / {total} GB",
    ),
    "Advanced": ("詳細設定", "高级"),
    "Steps": ("ステップ数", "步数"),
    "Guidance (1 is off)": ("ガイダンス（1で無効）", "引导（1 为关闭）"),
    "Guidance at low noise": ("低ノイズ時のガイダンス", "低噪声阶段引导"),
    "Guidance by the voice": ("音声ガイダンス", "声音引导"),
    "Guidance by the pictures": ("画像ガイダンス", "图片引导"),
    "Guidance formula": ("ガイダンスの式", "引导公式"),
    "Plain": ("標準", "标准"),
    "Guidance from (share of the steps)": ("ガイダンスの開始（ステップの割合）", "引导起点（步数占比）"),
    "Guidance until (share of the steps)": ("ガイダンスの終了（ステップの割合）", "引导终点（步数占比）"),
    "Seed (-1: a new one)": ("シード（-1で毎回新規）", "种子（-1 为随机）"),
    "Negative prompt": ("ネガティブプロンプト", "负面提示词"),
    "Width": ("幅", "宽"),
    "Height": ("高さ", "高"),
    "Width (0: as the picture)": ("幅（0で画像に合わせる）", "宽（0 随图片）"),
    "Height (0: as the picture)": ("高さ（0で画像に合わせる）", "高（0 随图片）"),
    "Shape": ("縦横比", "画面比例"),
    "As the picture": ("画像に合わせる", "随图片"),
    "Steps that are computed": ("計算するステップ", "计算的步骤"),
    "All of them": ("すべて", "全部"),
    "As needed (faster)": ("必要な分（速い）", "按需（更快）"),
    "By schedule (faster)": ("予定どおり（速い）", "按安排（更快）"),
    "Sampler": ("サンプラー", "采样器"),
    "Flow shift (0: the model's own)": ("フローシフト（0でモデル既定）", "流偏移（0 为模型默认）"),
    "Use a face or a voice only with the consent of the person it belongs to": (
        "顔や声は、必ず本人の同意を得て使ってください",
        "使用他人的面孔或声音前，请先征得本人同意",
    ),
    # buttons
    "Generate": ("生成", "生成"),
    "Cancel": ("中止", "取消"),
    "Try again": ("もう一度", "重试"),
    "Download": ("ダウンロード", "下载"),
    "Extend": ("続きを作る", "续写"),
    "Or a video to go on from": ("または続きを作る動画", "或要续接的视频"),
    "Go on from the last frame": ("最後のフレームから続ける", "从最后一帧继续"),
    "Last frame as a reference": ("最後のフレームを参照に使う", "将最后一帧用作参考"),
    "Recipe": ("レシピ", "配方"),
    "Use from a program": ("プログラムから使う", "在程序中使用"),
    "Language": ("言語", "语言"),
    "Code": ("コード", "代码"),
    "A video to follow or to change": ("参考にする、または変更する動画", "要跟随或修改的视频"),
    "Video": ("動画", "视频"),
    "Mask: white is changed, black is kept": ("マスク（白は変更、黒はそのまま）", "蒙版（白色改变，黑色保留）"),
    "Pad, and paint around it": ("全体を入れて周りを描く", "完整放入并绘制四周"),
    "How closely video and pictures are followed": ("動画と画像への忠実度", "对视频和图片的遵循程度"),
    "Keep this seed": ("このシードを使う", "沿用此种子"),
    "Restore from a video …": ("動画から設定を復元 …", "从视频恢复设置 …"),
    "Result": ("結果", "结果"),
    # what the server writes
    "What the model sees": ("モデルに見える画像", "模型看到的画面"),
    "What the model sees: drag the frame to what matters": (
        "モデルに見える範囲（枠を大事な所へドラッグ）",
        "模型看到的范围（把框拖到重点处）",
    ),
    "Your video appears here": ("ここに動画が表示されます", "视频会显示在这里"),
    "Waiting for the model …": ("順番を待っています …", "正在排队 …"),
    "{count} before yours": ("この前に{count}件", "前面还有 {count} 个"),
    "Stopped": ("中止しました", "已停止"),
    "This cannot be made yet": ("このままでは作れません", "还不能生成"),
    "Compiling for this size": ("このサイズ用にコンパイルしています", "正在为此尺寸编译"),
    "Reading the prompt": ("プロンプトを読んでいます", "正在读取提示词"),
    "Denoising": ("ノイズ除去中", "正在去噪"),
    "Decoding": ("デコード中", "正在解码"),
    "step {step} of {of}": ("{step}/{of} ステップ", "第 {step}/{of} 步"),
    "{seconds} s left": ("残り{seconds}秒", "剩余 {seconds} 秒"),
    "preview of the video so far": ("途中経過", "当前预览"),
    "{seconds} s ({frames} frames, {fps} a second)": (
        "{seconds}秒（{frames}フレーム、毎秒{fps}）",
        "{seconds} 秒（{frames} 帧，每秒 {fps} 帧）",
    ),
    "{steps} steps": ("{steps}ステップ", "{steps} 步"),
    "takes about {seconds} s here": ("この環境で約{seconds}秒", "在此约需 {seconds} 秒"),
    "takes about {minutes} min here": ("この環境で約{minutes}分", "在此约需 {minutes} 分钟"),
    "Made by {engine}: {first} does not serve this tab": (
        "{engine}が作ります（{first}はこのタブに対応していません）",
        "由 {engine} 生成（{first} 不支持此标签页）",
    ),
    "{loaded} does not serve this tab; these do: {able}; set WAN_MODEL to the folder of one, or of several "
    "with commas between them": (
        "{loaded}はこのタブに対応していません。対応するモデル：{able}。WAN_MODELにそのフォルダを指定してください（カンマ区切りで複数可）。",
        "{loaded} 不支持此标签页；支持的模型：{able}。请将 WAN_MODEL 设为其文件夹（可用逗号分隔多个）。",
    ),
    "{gigabytes} GB of memory": ("メモリ{gigabytes} GB", "内存 {gigabytes} GB"),
    "Your videos": ("作った動画", "你的视频"),
}  # fmt: skip


def translations() -> gr.I18n:
    """All words, for ``launch``."""
    return gr.I18n(
        en={word: word for word in WORDS},
        ja={word: ja for word, (ja, _) in WORDS.items()},
        zh={word: zh for word, (_, zh) in WORDS.items()},
    )


def label(word: str) -> str:
    """A word on a widget, translated by the browser.

    Args:
        word: one of ``WORDS``.
    """
    if word not in WORDS:
        raise KeyError(word)
    return gr.I18n()(word)  # type: ignore[return-value] - Gradio takes it wherever it takes a string


def say(language: str, word: str, **values: object) -> str:
    """A word that the server writes.

    Args:
        language: one of ``LANGUAGES``.
        word: one of ``WORDS``.
        values: what stands in its braces.
    """
    said = dict(zip(LANGUAGES, (word, *WORDS[word]), strict=True))[language]
    return said.format(**values)


def language_of(request: gr.Request | None) -> str:
    """The first of our languages that a visitor's browser prefers; English if there is none."""
    wished = "" if request is None else request.headers.get("accept-language", "")
    for part in wished.split(","):
        code = part.split(";")[0].strip().lower()[:2]
        if code in LANGUAGES:
            return code
    return "en"
