"""``python infer_vllm.py --question … --model_path … --api_base …``: asks a trained router."""

from router_r1.inference.__main__ import main
from verl.utils.command import run_as_command

if __name__ == "__main__":
    run_as_command(main)
